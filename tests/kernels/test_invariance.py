"""Where batch invariance is switched on: the same bits, whatever the batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from kernel_batches import Case, Inputs, build, plan
from triton.runtime import interpreter

from octavo.kernels import invariance
from octavo.kernels.attention_plan import make_work_lists
from octavo.kernels.invariant_linear import invariant_linear
from octavo.kernels.paged_attention import paged_attention
from octavo.kernels.reference import paged_attention as reference_attention

GPU = pytest.mark.gpu


@pytest.fixture(autouse=True)
def rows_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter leaves the product of two tiles to BLAS. On some processors that sums a row
    in another order in another place; GPUs do not, and it is not what is tested here."""

    def create_dot(self: object, a: Any, b: Any, d: Any, *_: object) -> object:
        product = np.einsum("...ik,...kj->...ij", a.data, b.data, dtype=d.data.dtype)
        return interpreter.TensorHandle(product + d.data, d.dtype.scalar)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", create_dot)


@pytest.fixture
def switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invariance, "_on", True)


def check_linear(device: str, dtype: torch.dtype, outputs: int, inner: int, most: int) -> None:
    torch.manual_seed(0)
    weight = (torch.randn(outputs, inner) * 0.1).to(device, dtype)
    bias = torch.randn(outputs).to(device, dtype)
    x = torch.randn(most, inner).to(device, dtype)
    whole = invariant_linear(x, weight, bias)
    exact = x.double() @ weight.double().T + bias.double()
    assert (whole.double() - exact).norm() < 4e-3 * exact.norm()
    for start, end in ((0, 1), (most - 1, most), (1, 4), (0, most // 2), (most // 3, most)):
        part = invariant_linear(x[start:end], weight, bias)
        assert torch.equal(part, whole[start:end]), (start, end)


def test_rows_of_a_product(device: str) -> None:
    check_linear(device, torch.float32, 100, 72, 70)


@GPU
@pytest.mark.parametrize(("outputs", "inner"), [(6144, 4096), (28672, 4096), (128256, 1024)])
def test_rows_of_large_products(outputs: int, inner: int) -> None:
    check_linear("cuda", torch.bfloat16, outputs, inner, 700)


def planned(inputs: Inputs, case: Case, queries: list[int], rows: list[int]) -> Inputs:
    """The last `queries` tokens of some of the rows, as a batch of their own."""
    batch, starts = inputs.batch, inputs.batch.query_start.tolist()
    pick = [range(starts[row + 1] - count, starts[row + 1]) for row, count in zip(rows, queries)]  # noqa: B905
    tokens = torch.tensor([token for part in pick for token in part], device=inputs.q.device)
    own = torch.tensor([0, *queries], device=inputs.q.device).cumsum(0).int()
    work = make_work_lists(
        len(rows), sum(queries), case.heads, case.kv_heads, case.dim, case.dtype, inputs.q.device
    )
    longer = [count for count in queries if count > 1]
    part = replace(
        batch,
        slots=batch.slots[rows].contiguous(),
        seq_lens=batch.seq_lens[rows].contiguous(),
        query_start=own,
        work=work.needed(queries.count(1), len(longer), sum(longer)),
    )
    plan(part)
    return replace(inputs, q=inputs.q[tokens].contiguous(), batch=part)


def check_attention(case: Case, device: str) -> None:
    inputs = build(case, device)
    scale = case.dim**-0.5
    q, k, v = inputs.q.contiguous(), inputs.k_cache, inputs.v_cache
    whole = paged_attention(q, k, v, inputs.batch, scale)
    exact = reference_attention(q.double(), k.double(), v.double(), inputs.batch, scale)
    assert (whole.double() - exact).norm() < 5e-3 * exact.norm()
    ends = inputs.batch.query_start.tolist()[1:]
    count = len(case.queries)
    for queries in ([1] * count, [min(3, most) for most in case.queries]):
        for rows in (list(range(count)), [0], [count - 1, 0]):
            counts = [queries[row] for row in rows]
            part = planned(inputs, case, counts, rows)
            out = paged_attention(part.q, k, v, part.batch, scale)
            expected = torch.cat([whole[ends[row] - queries[row] : ends[row]] for row in rows])
            assert torch.equal(out, expected), (rows, counts)


def test_a_token_alone_or_in_a_chunk(device: str, switched_on: None) -> None:
    check_attention(Case([5, 1, 20], [40, 33, 20]), device)


@GPU
@pytest.mark.parametrize("block_size", [16, 64])
def test_tokens_of_a_large_batch(block_size: int, switched_on: None) -> None:
    queries, lengths = [200, 1, 1, 64, 1000, 1], [2000, 1, 5000, 64, 4000, 130]
    case = Case(queries, lengths, 32, 8, 128, block_size, torch.bfloat16)
    check_attention(case, "cuda")
