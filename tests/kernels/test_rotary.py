from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from octavo.kernels import reference, rotary

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BLOCK_SIZE = 16


@dataclass(frozen=True)
class Case:
    tokens: int
    q_heads: int
    kv_heads: int
    head_dim: int
    rotary_dim: int
    normed: bool
    dtype: torch.dtype = torch.float32


SMALL = [
    Case(3, 4, 4, 64, 64, False),
    Case(5, 10, 2, 72, 72, True),
    Case(2, 3, 1, 96, 40, True),
    Case(4, 17, 9, 16, 10, False, torch.float16),
]
LARGE = [
    Case(300, 32, 8, head_dim, rotary_dim, normed, dtype)
    for dtype in (torch.float32, torch.bfloat16)
    for head_dim, rotary_dim, normed in (
        *((64, 64, False), (72, 72, True), (80, 32, False), (96, 96, False)),
        *((128, 128, True), (192, 64, False), (256, 256, True)),
    )
]


class Step:
    """Packed projections, tables and caches of one case, random but for the last token: padding."""

    def __init__(self, case: Case) -> None:
        generator = torch.Generator().manual_seed(case.head_dim)
        self.case = case
        heads = case.q_heads + 2 * case.kv_heads
        blocks = case.tokens // BLOCK_SIZE + 3
        self.qkv = torch.randn(case.tokens, heads * case.head_dim, generator=generator)
        self.norms = torch.randn(2, case.head_dim, generator=generator).to(case.dtype)
        angles = 6.3 * torch.rand(200, case.rotary_dim // 2, generator=generator)
        self.cos_sin = torch.cat([angles.cos(), angles.sin()], dim=1)
        self.positions = torch.randint(0, 200, (case.tokens,), generator=generator).int()
        self.slot_mapping = torch.randperm(blocks * BLOCK_SIZE, generator=generator)[: case.tokens]
        self.positions[-1], self.slot_mapping[-1] = 0, -1
        self.cache_shape = (2, blocks, case.kv_heads, BLOCK_SIZE, case.head_dim)

    def run(self, module: object, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """The qkv and the caches [2, ...] after the op, computed on values rounded to the case's
        dtype but held in `dtype`."""
        case = self.case
        qkv = self.qkv.to(case.dtype).to(DEVICE, dtype, copy=True)
        caches = torch.full(self.cache_shape, 7.0, dtype=dtype, device=DEVICE)
        heads = (case.q_heads, case.kv_heads, case.kv_heads)
        q, k, v = torch.split(qkv.view(len(qkv), -1, case.head_dim), list(heads), dim=1)
        tables = (self.positions, self.cos_sin, self.slot_mapping)
        norms = self.norms.to(DEVICE, dtype) if case.normed else (None, None)
        on_device = (table.to(DEVICE) for table in tables)
        module.rotary_and_kv_write(q, k, v, *on_device, *caches, *norms, 1e-6)  # type: ignore[attr-defined]
        return qkv, caches


@pytest.mark.parametrize(
    "case", [*SMALL, *(pytest.param(case, marks=pytest.mark.gpu) for case in LARGE)], ids=str
)
def test_rotation_and_write_match_float64(case: Case) -> None:
    step = Step(case)
    within = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[case.dtype]
    for got, expected in zip(
        step.run(rotary, case.dtype), step.run(reference, torch.float64), strict=True
    ):
        torch.testing.assert_close(got.double(), expected, rtol=within, atol=within)


def test_only_q_and_the_mapped_slots_change() -> None:
    step = Step(SMALL[0])
    qkv, caches = step.run(rotary, torch.float32)
    width = SMALL[0].q_heads * SMALL[0].head_dim
    assert torch.equal(qkv[:, width:].cpu(), step.qkv[:, width:])
    assert not torch.equal(qkv[:, :width].cpu(), step.qkv[:, :width])
    untouched = torch.ones(caches.shape[1] * BLOCK_SIZE, dtype=torch.bool)
    untouched[step.slot_mapping[step.slot_mapping >= 0]] = False
    tokens = caches.cpu().transpose(2, 3).flatten(1, 2)
    assert bool((tokens[:, untouched] == 7.0).all())
    assert not bool((tokens[:, ~untouched] == 7.0).any())


def test_shapes_that_do_not_fit_are_refused() -> None:
    q, k = torch.zeros(2, 4, 64, device=DEVICE), torch.zeros(2, 2, 64, device=DEVICE)
    positions = torch.zeros(2, dtype=torch.int32, device=DEVICE)
    table, slots = torch.zeros(4, 64, device=DEVICE), torch.zeros(2, device=DEVICE).long()
    cache = torch.zeros(3, 2, 16, 64, device=DEVICE)
    write = rotary.rotary_and_kv_write
    with pytest.raises(ValueError, match="does not fit k"):
        write(q, k, k, positions, table, slots, cache[..., :32], cache[..., :32])
    with pytest.raises(ValueError, match="rotary_dim"):
        write(q, k, k, positions, table.repeat(1, 2), slots, cache, cache)
