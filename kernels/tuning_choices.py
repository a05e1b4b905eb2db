"""What is chosen for a GPU, and what is chosen from its limits alone."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

import msgspec
import torch

from octavo.kernels.attention_tiles import dim_pad
from octavo.kernels.launch import Limits
from octavo.kernels.shared_memory import Keys, Stages, Tile, fits_often

NARROW = 128
"""Head sizes up to this, padded to a power of two, are narrow."""

T = TypeVar("T")


class ByKind(msgspec.Struct, Generic[T], frozen=True, forbid_unknown_fields=True):
    """One choice for each kind of head, of 16-bit numbers up to 128 or up to 256 of them, or of
    wider numbers."""

    narrow: T
    wide: T
    float32: T

    def of(self, head_dim: int, dtype: torch.dtype) -> T:
        if dtype.itemsize > 2:
            return self.float32
        return self.narrow if dim_pad(head_dim) <= NARROW else self.wide


class Loop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `Tile` whose rows are those of the group."""

    keys: Keys
    warps: Literal[4, 8]
    stages: Stages

    def tile(self, rows: int) -> Tile:
        return Tile(rows, self.keys, self.warps, self.stages)  # type: ignore[arg-type]


class Decode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    programs_per_sm: Annotated[int, msgspec.Meta(ge=1, le=16)]
    """Into so many shares, those of all KV heads together, a batch is cut at least."""
    few_per_sm: Annotated[int, msgspec.Meta(ge=0, le=64)]
    """Programs a multiprocessor below which `few` holds."""
    few: ByKind[Loop]
    many: ByKind[Loop]


class Tuning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    decode: Decode
    prefill: ByKind[Tile]
    made_with: dict[str, str] = {}
    """The GPU and the versions that it was measured with: for people."""


def defaults(limits: Limits) -> Tuning:
    """Sound values for a GPU that nobody has measured; an H200's come out as they were measured."""
    programs = 2
    few = ByKind(
        narrow=_deepest(128, limits, programs),
        wide=_deepest(256, limits, programs),
        float32=Loop(keys=64, warps=4, stages=1),
    )
    many = ByKind(_shallow(few.narrow), _shallow(few.wide), few.float32)
    prefill = ByKind(
        narrow=_widest(128, limits),
        wide=_widest(256, limits),
        float32=Tile(rows=32, keys=32, warps=4, stages=1),
    )
    return Tuning(Decode(programs, 4, few, many), prefill)


def _deepest(dim: int, limits: Limits, programs: int) -> Loop:
    """What reads ahead furthest while so many programs share a multiprocessor."""
    depths: list[tuple[Keys, Stages]] = [(64, 4), (64, 3), (64, 2), (32, 2), (32, 1), (16, 1)]
    loops = [Loop(keys, 4, stages) for keys, stages in depths]
    fit = (loop for loop in loops if fits_often(loop.tile(16), dim, 2, limits, programs))
    return next(fit, loops[-1])


def _shallow(loop: Loop) -> Loop:
    return msgspec.structs.replace(loop, stages=min(loop.stages, 2))


def _widest(dim: int, limits: Limits) -> Tile:
    """128 rows where two such programs share a multiprocessor: one computes while one waits."""
    wide = Tile(rows=128, keys=64, warps=8, stages=2)
    return wide if fits_often(wide, dim, 2, limits, 2) else Tile(64, 64, 4, 2)
