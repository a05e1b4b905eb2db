"""The work lists of attention against a plain account of what they have to cover."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_batches import Case, build

from octavo.kernels.attention_plan import make_work_lists, plan_attention
from octavo.kernels.batch import WorkLists

ROW = st.tuples(st.integers(0, 40), st.integers(0, 3000))


def _planned(rows: list[tuple[int, int]]) -> WorkLists:
    """Of rows of (query tokens, length), row i in slot 2 i, 8 KV heads, tiles of 16 tokens."""
    queries, lengths = ([row[field] for row in rows] for field in (0, 1))
    starts = torch.tensor([0, *queries]).cumsum(0).int()
    slots = 2 * torch.arange(len(rows)).int()
    work = make_work_lists(len(rows), sum(queries), 64, 8, 128, torch.bfloat16, starts.device)
    work.shares.fill_(77)
    work.tiles.fill_(77)
    plan_attention(work, starts, torch.tensor(lengths).int(), slots)
    return work


def _lists(rows: list[tuple[int, int]]) -> tuple[list[list[int]], list[list[int]]]:
    work = _planned(rows)
    assert work.num_tiles.item() == sum(tile[0] >= 0 for tile in work.tiles.tolist())
    return work.shares.tolist(), work.tiles.tolist()


@settings(max_examples=12, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=7))
def test_every_key_and_token_is_covered_once(rows: list[tuple[int, int]]) -> None:
    rows = [(query, max(query, length)) for query, length in rows]
    shares, tiles = _lists(rows)
    start = 0
    for row, (query, length) in enumerate(rows):
        mine = [share for share in shares if share[0] == start and share[1] == 2 * row]
        if query == 1:
            assert [share[2] for share in mine] == [length] * len(mine)
            assert [share[5] for share in mine] == list(range(len(mine)))
            assert {share[6] for share in mine} == {len(mine)}
            assert {share[7] for share in mine} == {shares.index(mine[0])}
            borders = [share[3] for share in mine] + [mine[-1][4]]
            assert borders == sorted(borders)
            assert (borders[0], borders[-1]) == (0, -(-length // 64))
            assert all(first == end for (_, first), (end, _) in _joints(mine))
        firsts = [tile[0] for tile in tiles if tile[0] >= 0 and tile[2] == 2 * row]
        expected = list(range(start, start + query, 16))[::-1] if query > 1 else []
        assert firsts == expected
        start += query


def _joints(shares: list[list[int]]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    pairs = itertools.pairwise(shares)
    return [((0, after[3]), (before[4], 0)) for before, after in pairs]


@settings(max_examples=12, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=7))
def test_runs_are_even_and_begin_where_the_one_before_ends(rows: list[tuple[int, int]]) -> None:
    rows = [(query, max(query, length)) for query, length in rows]
    starts = itertools.accumulate([query for query, _ in rows], initial=0)
    singles = [
        (start, 2 * row, length, max(-(-length // 64), 1))
        for row, (start, (query, length)) in enumerate(zip(starts, rows, strict=False))
        if query == 1
    ]
    work = _planned(rows)
    before = list(itertools.accumulate([tiles for *_, tiles in singles], initial=0))
    expected = [[*row[:3], first] for row, first in zip(singles, before, strict=False)]
    assert work.rows[: len(singles)].tolist() == expected
    tiles = [
        (row, tile, head)
        for head in range(8)
        for row, (*_, count) in enumerate(singles)
        for tile in range(count)
    ]
    *runs, (used, _, heads, total) = work.runs.tolist()
    assert (used, heads, total) == (max(min(len(runs), len(tiles)), 1), 8, len(tiles))
    borders = [run[3] for run in runs[:used]] + [total]
    sizes = [end - begin for begin, end in itertools.pairwise(borders)]
    assert max(sizes) - min(sizes) <= 1
    assert all(run[3] == total for run in runs[used:])
    assert all(tuple(run[:3]) == tiles[run[3]] for run in runs if run[3] < total)


def test_a_long_row_gets_its_share_of_the_device() -> None:
    shares, _ = _lists([(1, 128 * 1024)] + [(1, 4096)] * 31)
    used = [share for share in shares if share[0] >= 0]
    lengths = [share[4] - share[3] for share in used]
    assert max(lengths) <= 2 * min(lengths)
    assert sum(share[0] == 0 for share in used) > 15


def test_lists_that_are_too_small_are_refused() -> None:
    batch = build(Case([1, 1], [5, 9])).batch
    small = replace(batch.work, shares=batch.work.shares[:3])
    with pytest.raises(ValueError, match="3 shares"):
        plan_attention(small, batch.query_start, batch.seq_lens, batch.slots)
