"""How much shared memory a program of the plain attention kernels takes, and tiles that fit.

The formulas were read off what Triton 3.6 and 3.9 compile; `tests/kernels/test_shared_memory.py`
holds the two together. They are never below what is compiled, and mostly equal to it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from octavo.kernels.launch import Limits

RESERVED = 1 << 10
"""Bytes that the device adds to each program."""
BARRIERS = 1 << 10

Keys = Literal[16, 32, 64]
Stages = Annotated[int, msgspec.Meta(ge=1, le=8)]


class Tile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a program of `attention_tiles.attend` holds, and how it reads."""

    rows: Literal[16, 32, 64, 128]
    """Pairs of query token and head of the group."""
    keys: Keys
    """Positions at a time."""
    warps: Literal[4, 8]
    stages: Stages
    """Steps of the loop over keys that are under way at once."""


def attend_bytes(tile: Tile, dim: int, itemsize: int, from_shared: bool) -> int:
    """Of one program, for heads of `dim` (a power of two) elements of `itemsize` bytes."""
    queries, page = tile.rows * dim * itemsize, tile.keys * dim * itemsize
    weights = tile.rows * tile.keys * itemsize
    ahead = 2 * (tile.stages - 1) * page
    if itemsize > 2:  # no tensor cores: both operands of either product, and the row's sums
        at_once = max(2 * page, page + weights + 4 * tile.rows)
        return queries + (ahead + weights + 4 * tile.rows if ahead else at_once)
    if from_shared and tile.rows >= 64:  # keys and values stay until their product is through
        return queries + ahead + 2 * page + BARRIERS
    return queries + weights + (ahead or page)


def merge_bytes(group: int, dim: int, merged: int, warps: int) -> int:
    """Of a program that adds `merged` float32 results of `group` rows at once: warps that hold
    different ones meet there."""
    meeting = min(merged, max(warps * 128 // max(dim, 128), 1))
    return meeting * group * dim * 4 if meeting > 1 else 0


def fitting(tile: Tile, dim: int, itemsize: int, limits: Limits, least_rows: int = 16) -> Tile:
    """The tile, or where a program has no room for it one that reads less ahead or is smaller.

    Not below `least_rows`; where even that is too much, Triton will say so at the launch.
    """
    while attend_bytes(tile, dim, itemsize, limits.from_shared) > limits.shared:
        smaller = _smaller(tile, least_rows)
        if smaller == tile:
            break
        tile = smaller
    return tile


def fits_often(tile: Tile, dim: int, itemsize: int, limits: Limits, programs: int) -> bool:
    """Whether so many programs share a multiprocessor."""
    needed = attend_bytes(tile, dim, itemsize, limits.from_shared) + RESERVED
    return programs * needed <= limits.shared + RESERVED


def _smaller(tile: Tile, least_rows: int) -> Tile:
    """One step down, what costs the least first: a stage of two is worth more than wide tiles."""
    if tile.stages > 2:
        return msgspec.structs.replace(tile, stages=tile.stages - 1)
    if tile.keys > 32:
        return msgspec.structs.replace(tile, keys=tile.keys // 2)
    if tile.stages > 1:
        return msgspec.structs.replace(tile, stages=1)
    if tile.keys > 16:
        return msgspec.structs.replace(tile, keys=tile.keys // 2)
    if tile.rows > max(least_rows, 16):
        return msgspec.structs.replace(tile, rows=tile.rows // 2, warps=4)
    return tile
