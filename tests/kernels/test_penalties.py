from __future__ import annotations

import pytest
import torch

from octavo.kernels import penalties, reference
from octavo.kernels.reference_sampling import IN_PROMPT

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _inputs(rows: int, vocab: int) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(vocab)
    slots = torch.randperm(rows + 3, generator=generator)[:rows].int()
    counts = torch.randint(0, 3, (rows + 3, vocab), generator=generator, dtype=torch.int32)
    counts |= torch.randint(0, 2, counts.shape, generator=generator, dtype=torch.int32) << 30
    presence, frequency = torch.rand(2, rows, generator=generator) * 4 - 2
    repetition = torch.rand(rows, generator=generator) + 0.5
    logits = 5 * torch.randn(rows, vocab, generator=generator)
    logits[0, :3] = float("-inf")
    given = (slots, counts, presence, frequency, repetition)
    return logits.to(DEVICE), tuple(tensor.to(DEVICE) for tensor in given)


@pytest.mark.parametrize(
    ("rows", "vocab"), [(1, 7), (3, 2500), pytest.param(64, 151936, marks=pytest.mark.gpu)]
)
def test_penalties_match_the_reference(rows: int, vocab: int) -> None:
    logits, given = _inputs(rows, vocab)
    expected = logits.clone()
    reference.apply_penalties(expected, *given)
    penalties.apply_penalties(logits, *given)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", [reference, penalties])
def test_each_penalty_falls_on_its_own_tokens(family: object) -> None:
    """Ids: unseen, prompt only, output once, output twice and prompt."""
    logits = torch.tensor([[1.0, 1.0, -1.0, 1.0]], device=DEVICE)
    counts = torch.tensor([[0, IN_PROMPT, 1, IN_PROMPT | 2]], dtype=torch.int32, device=DEVICE)
    one = torch.ones(1, device=DEVICE)
    slots = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    family.apply_penalties(logits, slots, counts, 0.25 * one, 0.5 * one, 2.0 * one)  # type: ignore[attr-defined]
    assert logits.tolist() == [[1.0, 0.5, -2.75, -0.75]]


def test_counts_of_another_vocabulary_are_refused() -> None:
    logits, (slots, counts, *rest) = _inputs(2, 16)
    with pytest.raises(ValueError, match="counts"):
        penalties.apply_penalties(logits, slots, counts[:, :8], *rest)
