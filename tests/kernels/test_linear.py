"""Products with a weight against float64, and their determinism."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels import linear, ops

SHAPES = [(6144, 4096), (4096, 14336), (1024, 3072), (64, 128), (128256, 1024)]


def test_elsewhere_it_is_torch_s(device: str) -> None:
    x, weight, bias = torch.randn(3, 128), torch.randn(64, 128), torch.randn(64)
    x, weight, bias = x.to(device), weight.to(device), bias.to(device)
    expected = torch.nn.functional.linear(x, weight, bias)
    assert torch.equal(ops.linear(x, weight, bias), expected)
    strided = linear.linear(x.T.contiguous().T, weight)
    assert torch.allclose(strided, x @ weight.T, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_few_rows(shape: tuple[int, int], dtype: torch.dtype) -> None:
    """Every fraction of a tile that a program may begin or end with, and rows that fill none."""
    torch.manual_seed(0)
    outputs, columns = shape
    weight = (0.02 * torch.randn(outputs, columns, device="cuda")).to(dtype)
    bias = torch.randn(outputs, device="cuda").to(dtype)
    for rows in (1, 2, 7, 8, 9, 16, 17, 32):
        x = torch.randn(rows, columns, device="cuda").to(dtype)
        ours = linear.linear(x, weight, bias)
        exact = x.double() @ weight.double().T + bias.double()
        assert (ours.double() - exact).norm() < 3e-3 * exact.norm()
        assert all(torch.equal(linear.linear(x, weight, bias), ours) for _ in range(5))


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(28672, 4096), (6144, 1024), (128, 128)])
def test_gated(shape: tuple[int, int]) -> None:
    """The same as the product and the activation one after the other, rounding between included."""
    torch.manual_seed(0)
    weight = 0.05 * torch.randn(shape, device="cuda", dtype=torch.bfloat16)
    for rows in (1, 8, 13, 32, 33):
        x = torch.randn(rows, shape[1], device="cuda", dtype=torch.bfloat16)
        expected = ops.silu_and_mul(linear.linear(x, weight))
        error = (linear.gated_linear(x, weight) - expected).float().norm()
        assert error < 2e-3 * expected.float().norm()


@pytest.mark.gpu
def test_rows_of_a_wider_matrix() -> None:
    weight = torch.randn(256, 512, device="cuda", dtype=torch.bfloat16)
    wide = torch.randn(5, 1024, device="cuda", dtype=torch.bfloat16)
    assert torch.equal(
        linear.linear(wide[:, :512], weight), linear.linear(wide[:, :512].clone(), weight)
    )
