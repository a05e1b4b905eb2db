"""Rows that share their beginning attend to it together: against the reference, which does not."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_batches import Case, Inputs, build

from octavo.kernels import prefix_attention, reference
from octavo.kernels.attention_plan import plan_attention
from octavo.kernels.batch import PrefixWork
from octavo.kernels.launch import Limits
from octavo.kernels.paged_attention import paged_attention
from octavo.kernels.prefix_plan import PrefixGroup, max_items, max_room, plan_prefixes


def share(inputs: Inputs, groups: list[PrefixGroup], case: Case, splits: int) -> Inputs:
    """The same inputs, each group's rows with the leader's blocks at the beginning."""
    batch = inputs.batch
    tables = batch.block_tables.clone()
    for group in groups:
        blocks = group.tiles * 64 // case.block_size
        for row in group.rows:
            tables[batch.slots[row], :blocks] = tables[group.slot, :blocks]
    plan = plan_prefixes(groups, len(case.queries), batch.work.rows_of_item, splits)
    device = batch.slots.device
    items = torch.zeros(len(plan.items) + 3, 8, dtype=torch.int32, device=device)
    items[: len(plan.items)] = torch.from_numpy(plan.items)
    members, tiles, first, count = (
        torch.from_numpy(column).to(device)
        for column in (plan.members, plan.tiles, plan.first, plan.count)
    )
    room = int((plan.first + plan.count).max())
    work = PrefixWork(items, members, tiles, first, count, room)
    shared = replace(batch, block_tables=tables, prefixes=work)
    plan_attention(shared.work, shared.query_start, shared.seq_lens, shared.slots, work.tiles)
    return replace(inputs, batch=shared)


def check(case: Case, members: list[list[int]], tiles: list[int], device: str, splits: int) -> None:
    plain = build(case, device)
    slots = plain.batch.slots.tolist()
    groups = [
        PrefixGroup(rows, slots[rows[0]], count) for rows, count in zip(members, tiles, strict=True)
    ]
    inputs = share(plain, groups, case, splits)
    exact = inputs.to_float64()
    ours = paged_attention(inputs.q, inputs.k_cache, inputs.v_cache, inputs.batch, 0.2)
    expected = reference.paged_attention(exact.q, exact.k_cache, exact.v_cache, exact.batch, 0.2)
    tolerance = 2e-5 if case.dtype == torch.float32 else 1e-2
    for row in range(len(case.queries)):
        error = (ours[row].double() - expected[row]).norm() / expected[row].norm()
        assert error < tolerance, row


@pytest.mark.parametrize("block_size", [16, 64])
def test_two_groups_and_rows_alone(block_size: int, device: str) -> None:
    case = Case([1] * 6, [300, 70, 290, 257, 129, 200], block_size=block_size)
    check(case, [[0, 2, 3], [4, 5]], [4, 2], device, splits=3)


def test_more_rows_than_an_item_holds(device: str) -> None:
    case = Case([1] * 35, [130 + row for row in range(35)], heads=4, kv_heads=2, dim=16)
    check(case, [list(range(35))], [2], device, splits=8)


@pytest.mark.parametrize(("kilobytes", "keys"), [(15, 32), (5, 16)])
def test_small_tiles_give_the_same_results(
    kilobytes: int, keys: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(4, kilobytes << 10, from_shared=False)
    monkeypatch.setattr(prefix_attention, "limits", lambda _: limits)
    prefix_attention.tile_of.cache_clear()
    case = Case([1] * 6, [300, 70, 290, 257, 129, 200], dim=16)
    check(case, [[0, 2, 3], [4, 5]], [4, 2], device, splits=3)
    where = torch.empty(0, device=device).device
    assert prefix_attention.tile_of(2, 16, torch.float32, where).keys == keys
    prefix_attention.tile_of.cache_clear()


@pytest.mark.gpu
@pytest.mark.parametrize("heads", [(32, 8), (16, 8), (28, 4), (8, 1)])
def test_a_long_prefix(heads: tuple[int, int]) -> None:
    shape: dict[str, Any] = {"heads": heads[0], "kv_heads": heads[1], "dim": 128, "block_size": 64}
    lengths = [4096 + 50 * row for row in range(24)]
    case = Case([1] * 24, lengths, dtype=torch.bfloat16, **shape)
    check(case, [list(range(20)), [21, 22]], [64, 30], "cuda", splits=33)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(2, 50), st.integers(1, 300)), min_size=1, max_size=6),
    st.sampled_from([1, 4, 16, 64]),
    st.integers(1, 70),
)
def test_a_plan_covers_every_row_s_prefix_once(
    shapes: list[tuple[int, int]], rows_of_item: int, splits: int
) -> None:
    groups, used = [], 0
    for count, tiles in shapes:
        groups.append(PrefixGroup(list(range(used, used + count)), used + 7, tiles))
        used += count
    plan = plan_prefixes(groups, used + 3, rows_of_item, splits)
    assert len(plan.items) <= max_items(used, rows_of_item, splits)
    assert int((plan.first + plan.count).max()) <= max_room(used, rows_of_item, splits)
    covered: dict[int, list[tuple[int, int, int]]] = {}
    places = set()
    for begin, count, slot, low, high, number, _, _ in plan.items.tolist():
        for row in plan.members[begin : begin + count].tolist():
            assert slot == next(group.slot for group in groups if row in group.rows)
            covered.setdefault(row, []).append((number, low, high))
            places.add(int(plan.first[row]) + number)
    assert sorted(covered) == list(range(used))
    for row, shares in covered.items():
        assert [number for number, _, _ in shares] == list(range(int(plan.count[row])))
        borders = [low for _, low, _ in shares] + [shares[-1][2]]
        assert (borders[0], borders[-1]) == (0, int(plan.tiles[row]))
        assert all(high == low for (_, _, high), (_, low, _) in itertools.pairwise(shares))
    assert len(places) == sum(len(shares) for shares in covered.values())
