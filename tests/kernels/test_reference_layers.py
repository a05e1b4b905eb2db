"""The reference's norms and activation against torch's own; step inputs against a worked case."""

from __future__ import annotations

import torch

from octavo.kernels import reference


def _normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_rms_norm_is_torchs() -> None:
    x, weight = _normal(3, 24), _normal(24)
    expected = torch.nn.functional.rms_norm(x, (24,), weight, 1e-5)
    torch.testing.assert_close(reference.rms_norm(x, weight, 1e-5), expected)


def test_add_rms_norm_norms_the_sum_that_it_leaves_behind() -> None:
    x, residual, weight = _normal(3, 24), _normal(4, 24)[1:].clone(), _normal(24)
    total = x + residual
    normed, returned = reference.add_rms_norm(x, residual, weight, 1e-5)
    assert returned is residual
    torch.testing.assert_close(residual, total)
    expected = torch.nn.functional.rms_norm(total, (24,), weight, 1e-5)
    torch.testing.assert_close(normed, expected)


def test_silu_and_mul_is_torchs_silu_of_the_first_half() -> None:
    x = _normal(3, 24)
    expected = torch.nn.functional.silu(x[:, :12]) * x[:, 12:]
    torch.testing.assert_close(reference.silu_and_mul(x), expected)


def test_prepare_inputs_places_every_token_and_pads() -> None:
    tables = torch.tensor([[9, 8], [5, 3]], dtype=torch.int32)
    ids, positions, seq_lens = (torch.full((n,), 99, dtype=torch.int32) for n in (5, 5, 3))
    slot_mapping = torch.full((5,), 99)
    reference.prepare_inputs(
        torch.tensor([-1, 11, 12], dtype=torch.int32),
        torch.tensor([0, 1, 3], dtype=torch.int32),
        torch.tensor([1, 0], dtype=torch.int32),
        torch.tensor([3, 6], dtype=torch.int32),
        torch.tensor([70, 71], dtype=torch.int32),
        *(tables, 4, ids, positions, slot_mapping, seq_lens),
    )
    assert ids.tolist() == [71, 11, 12, 0, 0]
    assert positions.tolist() == [6, 3, 4, 0, 0]
    assert slot_mapping.tolist() == [3 * 4 + 2, 9 * 4 + 3, 8 * 4 + 0, -1, -1]
    assert seq_lens.tolist() == [7, 5, 0]
