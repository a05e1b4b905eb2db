from __future__ import annotations

import pytest
import torch

from octavo.kernels import activation, reference

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _compare(rows: int, width: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(rows * 1009 + width)
    x = (4 * torch.randn(rows, 2 * width, generator=generator)).to(dtype).to(DEVICE)
    expected = reference.silu_and_mul(x.double()).to(dtype)
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(activation.silu_and_mul(x), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (3, 40), (2, 1025)])
def test_silu_and_mul_matches_float64(rows: int, width: int, dtype: torch.dtype) -> None:
    _compare(rows, width, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize(("rows", "width"), [(1, 14336), (4097, 3072), (70000, 8)])
def test_silu_and_mul_matches_float64_at_model_sizes(rows: int, width: int) -> None:
    _compare(rows, width, torch.bfloat16)


@pytest.mark.filterwarnings("ignore:overflow")
def test_silu_and_mul_of_extreme_gates_stays_finite() -> None:
    x = torch.tensor([[-1e4, 1e4, 0.0, 2.0, 3.0, 5.0]], device=DEVICE)
    expected = torch.tensor([[0.0, 3e4, 0.0]], device=DEVICE)
    torch.testing.assert_close(activation.silu_and_mul(x), expected)


def test_silu_and_mul_refuses_an_odd_width() -> None:
    with pytest.raises(ValueError, match="2I"):
        activation.silu_and_mul(torch.zeros(2, 3, device=DEVICE))
