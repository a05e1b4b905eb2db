from __future__ import annotations

import pytest
import torch

from octavo.kernels import bitmask, reference

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("rows", "vocab"), [(1, 7), (3, 64), (4, 5000), pytest.param(64, 151936, marks=pytest.mark.gpu)]
)
def test_masks_match_the_reference(rows: int, vocab: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(vocab)
    logits = torch.randn(rows, vocab, generator=generator).to(DEVICE, dtype)
    chosen = torch.randperm(rows, generator=generator)[: -(-rows // 2)].to(DEVICE)
    shape = (len(chosen), -(-vocab // 32))
    masks = torch.randint(-(2**31), 2**31, shape, generator=generator).int().to(DEVICE)
    expected = logits.clone()
    reference.apply_bitmask(expected, chosen, masks)
    bitmask.apply_bitmask(logits, chosen, masks)
    assert torch.equal(logits, expected)
    assert logits.isinf().any()


@pytest.mark.parametrize("family", [reference, bitmask])
def test_bits_are_ids_from_the_lowest(family: object) -> None:
    logits = torch.zeros(2, 40, device=DEVICE)
    masks = torch.tensor([[0b1010, 1 << 7]], dtype=torch.int32, device=DEVICE)
    family.apply_bitmask(logits, torch.tensor([1], device=DEVICE), masks)  # type: ignore[attr-defined]
    assert logits[0].isfinite().all()
    assert logits[1].isfinite().nonzero().ravel().tolist() == [1, 3, 39]


def test_masks_of_another_vocabulary_are_refused() -> None:
    logits, rows = torch.zeros(2, 40, device=DEVICE), torch.tensor([0], device=DEVICE)
    for masks in (torch.zeros(1, 1).int(), torch.zeros(2, 2).int(), torch.zeros(1, 2)):
        with pytest.raises(ValueError, match="masks"):
            bitmask.apply_bitmask(logits, rows, masks.to(DEVICE))
