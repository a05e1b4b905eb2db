"""Which rows attend together to a beginning that they share: worked out on the host, with numpy.

Groups change when requests come and go; in between a step has the plan of the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]

ITEM_FIELDS = 8
MIN_TILES = 4
"""Tiles of 64 positions of a share: less is not worth a merge."""


@dataclass(frozen=True)
class PrefixGroup:
    """Rows that share the first `tiles` tiles, which the block table of `slot` names."""

    rows: Sequence[int]
    slot: int
    tiles: int


@dataclass(frozen=True)
class PrefixPlan:
    """The columns of `PrefixWork`, on the host."""

    items: Ints
    members: Ints
    tiles: Ints
    first: Ints
    count: Ints


def plan_prefixes(
    groups: Sequence[PrefixGroup], num_rows: int, rows_of_item: int, splits: int
) -> PrefixPlan:
    """Cut the groups' work into items of at most `rows_of_item` rows: about `splits` of them in
    all, as many as fill the device for one KV head, if the prefixes are long enough."""
    chunks = [
        (group, group.rows[at : at + rows_of_item])
        for group in groups
        for at in range(0, len(group.rows), rows_of_item)
    ]
    total = sum(group.tiles for group, _ in chunks)
    most = max(-(-total // max(splits, 1)), MIN_TILES)
    columns = [np.zeros(num_rows, np.int32) for _ in range(3)]
    tiles, first, count = columns
    items: list[list[int]] = []
    members: list[int] = []
    room = 0
    for group, rows in chunks:
        shares = max(group.tiles // most, 1)
        borders = [group.tiles * share // shares for share in range(shares + 1)]
        for share in range(shares):
            bounds = borders[share], borders[share + 1]
            items.append([len(members), len(rows), group.slot, *bounds, share, 0, 0])
        index = np.asarray(rows)
        tiles[index], count[index] = group.tiles, shares
        first[index] = room + shares * np.arange(len(rows))
        members += rows
        room += shares * len(rows)
    flat = np.asarray(items, np.int32).reshape(-1, ITEM_FIELDS)
    return PrefixPlan(flat, np.asarray(members, np.int32), tiles, first, count)


def max_items(num_rows: int, rows_of_item: int, splits: int) -> int:
    """Items of any plan for `num_rows` rows, at most: every group has two rows or more."""
    return splits + num_rows // 2 + -(-num_rows // rows_of_item)


def max_room(num_rows: int, rows_of_item: int, splits: int) -> int:
    """Partial results of any plan, at most: one a row, and those of the `splits`."""
    return num_rows + rows_of_item * splits
