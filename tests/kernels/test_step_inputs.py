"""prepare_inputs against its reference, with and without padding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from octavo.kernels import reference
from octavo.kernels.step_inputs import prepare_inputs

Tensors = list[torch.Tensor]
prepare: Callable[..., None] = prepare_inputs
reference_prepare: Callable[..., None] = reference.prepare_inputs


def rows(counts: list[int], device: str, block_size: int) -> tuple[Tensors, int]:
    """Random slots, lengths and tables for rows of `counts` tokens."""
    generator = torch.Generator().manual_seed(len(counts))
    slots = torch.randperm(len(counts) + 3, generator=generator)[: len(counts)].int()
    total = sum(counts)
    host_ids = torch.randint(-1, 50, (total,), generator=generator).int()
    start = torch.tensor([0, *counts]).cumsum(0).int()
    computed = torch.randint(0, 90, (len(counts) + 3,), generator=generator).int()
    last = torch.randint(100, 200, (len(counts) + 3,), generator=generator).int()
    width = (90 + max(counts)) // block_size + 1
    tables = torch.randint(0, 10**6, (len(counts) + 3, width), generator=generator).int()
    return [t.to(device) for t in (host_ids, start, slots, computed, last, tables)], total


def outputs(num_tokens: int, num_rows: int, device: str) -> Tensors:
    kinds = (torch.int32, torch.int32, torch.int64)
    tokens = [torch.full((num_tokens,), 77, dtype=kind, device=device) for kind in kinds]
    return [*tokens, torch.full((num_rows,), 77, dtype=torch.int32, device=device)]


@pytest.mark.parametrize("counts", [[1], [2, 1, 3, 1], [1] * 300, [300, 1, 700]])
@pytest.mark.parametrize("padding", [0, 5])
def test_equals_reference(counts: list[int], padding: int, device: str) -> None:
    arguments, total = rows(counts, device, 16)
    ours = outputs(total + padding, len(counts) + padding, device)
    expected = outputs(total + padding, len(counts) + padding, device)
    prepare(*arguments, 16, *ours)
    reference_prepare(*arguments, 16, *expected)
    for mine, theirs in zip(ours, expected, strict=True):
        assert torch.equal(mine, theirs)


def test_shapes_that_do_not_fit_are_refused(device: str) -> None:
    arguments, total = rows([2, 3], device, 16)
    with pytest.raises(ValueError, match="does not fit"):
        prepare(*arguments, 16, *outputs(total, 1, device))
