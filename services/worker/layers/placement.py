"""Placement: where a part of a checkpoint tensor goes on this rank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

Placements = Iterator[tuple[str, "Placement"]]
"""(checkpoint name, placement): one name may have several."""


@dataclass(frozen=True)
class Placement:
    """`target`, a view of a parameter, takes `shape`'s indices start.. along `dim`.

    `shape` is the checkpoint tensor's, which is checked before anything is read.
    """

    target: torch.Tensor
    shape: tuple[int, ...]
    dim: int = 0
    start: int = 0

    @property
    def stop(self) -> int:
        return self.start + self.target.shape[self.dim]


def whole(target: torch.Tensor) -> Placement:
    return Placement(target, tuple(target.shape))
