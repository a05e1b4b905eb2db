from __future__ import annotations

from typing import Any

import pytest
import torch

from octavo.kernels import reference, rms_norm

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def _inputs(
    rows: int, hidden: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows * 100_003 + hidden)
    x, residual = torch.randn(2, rows, hidden, generator=generator).to(dtype)
    weight = torch.randn(hidden, generator=generator).to(dtype)
    return x.to(DEVICE), residual.to(DEVICE), weight.to(DEVICE)


def _compare(rows: int, hidden: int, dtype: torch.dtype) -> None:
    x, residual, weight = _inputs(rows, hidden, dtype)
    within: dict[str, Any] = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    expected = reference.rms_norm(x.double(), weight.double(), 1e-5).to(dtype)
    torch.testing.assert_close(rms_norm.rms_norm(x, weight, 1e-5), expected, **within)
    total = residual + x
    expected = reference.rms_norm(total.double(), weight.double(), 1e-5).to(dtype)
    normed, returned = rms_norm.add_rms_norm(x, residual, weight, 1e-5)
    assert returned is residual
    torch.testing.assert_close(residual, total, rtol=0, atol=0)
    torch.testing.assert_close(normed, expected, **within)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("rows", "hidden"), [(1, 1), (3, 72), (2, 64), (4, 1000)])
def test_norms_match_float64(rows: int, hidden: int, dtype: torch.dtype) -> None:
    _compare(rows, hidden, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "hidden"), [(1, 4096), (777, 3072), (8192, 1024), (33, 16384)])
def test_norms_match_float64_at_model_sizes(rows: int, hidden: int, dtype: torch.dtype) -> None:
    _compare(rows, hidden, dtype)


def test_rms_norm_reads_strided_rows_and_keeps_the_leading_shape() -> None:
    x, _, weight = _inputs(6, 64, torch.float32)
    view = x[:, 16:48]
    normed = rms_norm.rms_norm(view, weight[:32], 1e-6)
    torch.testing.assert_close(normed, reference.rms_norm(view, weight[:32], 1e-6))
    heads = rms_norm.rms_norm(x.view(3, 2, 64), weight, 1e-6)
    torch.testing.assert_close(heads.view(6, 64), reference.rms_norm(x, weight, 1e-6))


def test_add_rms_norm_keeps_a_wider_residual() -> None:
    x, residual, weight = _inputs(3, 64, torch.float32)
    small = x.to(torch.bfloat16)
    total = residual + small
    normed, _ = rms_norm.add_rms_norm(small, residual, weight, 1e-6)
    assert normed.dtype == residual.dtype == torch.float32
    torch.testing.assert_close(residual, total, rtol=0, atol=0)


def test_rms_norm_of_no_rows_is_empty() -> None:
    _, _, weight = _inputs(1, 64, torch.float32)
    assert rms_norm.rms_norm(weight.new_empty(0, 64), weight, 1e-6).shape == (0, 64)


def test_a_weight_of_another_size_is_refused() -> None:
    x, residual, weight = _inputs(2, 64, torch.float32)
    with pytest.raises(ValueError, match="does not fit"):
        rms_norm.rms_norm(x, weight[:32], 1e-6)
    with pytest.raises(ValueError, match="must be"):
        rms_norm.add_rms_norm(x[:1], residual, weight, 1e-6)
