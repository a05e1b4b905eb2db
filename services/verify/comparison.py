"""How far two sets of logits are apart, and whether that is rounding or a mistake."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import torch

from octavo.services.verify.reference import Answer


@dataclass(frozen=True)
class Tolerance:
    """`relative`: of the difference's norm to the logits'. `kl`: mean, in nats a token."""

    relative: float
    kl: float


TOLERANCES = {
    "float32": Tolerance(1e-3, 1e-5),
    "float16": Tolerance(2e-2, 2e-3),
    "bfloat16": Tolerance(6e-2, 2e-2),
}
"""What another order of sums makes of a deep model, and a margin; a wrong layer is far outside."""


class Difference(msgspec.Struct, frozen=True):
    """Of one prompt and its continuation. `tie`: where the greedy ids part, how much likelier the
    reference's own choice was to it than ours, in logits; None: they do not part."""

    prompt_tokens: int
    tokens: int
    max_abs: float
    max_relative: float
    relative: float
    mean_kl: float
    max_kl: float
    top1: float
    greedy_equal: int
    greedy_tokens: int
    tie: float | None
    ok: bool


def compare(theirs: Answer, ours: torch.Tensor, greedy: list[int], dtype: str) -> Difference:
    tolerance = TOLERANCES[dtype]
    apart = (ours - theirs.logits).abs()
    relative = float(apart.norm() / theirs.logits.norm())
    kl = divergence(theirs.logits, ours)
    equal = common_beginning(theirs.continuation, greedy)
    tie = _tie(theirs, greedy, equal)
    # Where the choice is that close, either id is right.
    tied = tie is None or tie <= 4 * float(apart.max())
    close = relative <= tolerance.relative and float(kl.mean()) <= tolerance.kl
    return Difference(
        prompt_tokens=len(theirs.prompt),
        tokens=len(theirs.logits),
        max_abs=float(apart.max()),
        max_relative=float(apart.max() / theirs.logits.abs().max()),
        relative=relative,
        mean_kl=float(kl.mean()),
        max_kl=float(kl.max()),
        top1=float((ours.argmax(-1) == theirs.logits.argmax(-1)).float().mean()),
        greedy_equal=equal,
        greedy_tokens=len(theirs.continuation),
        tie=tie,
        ok=close and tied and bool(torch.isfinite(ours).all()),
    )


def divergence(theirs: torch.Tensor, ours: torch.Tensor) -> torch.Tensor:
    """KL(theirs || ours) of each token, in float64: it is a small difference of large sums."""
    right, found = (each.double().log_softmax(-1) for each in (theirs, ours))
    return (right.exp() * (right - found)).sum(-1).clamp(min=0)


def common_beginning(first: list[int], second: list[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next(
        (index for index, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second))
    )


def _tie(theirs: Answer, greedy: list[int], equal: int) -> float | None:
    if equal >= len(theirs.continuation):
        return None
    row = theirs.logits[len(theirs.prompt) - 1 + equal]
    return float(row[theirs.continuation[equal]] - row[greedy[equal]])
