"""`kernels/sampling.py` against the reference and against the distributions it must draw from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
import triton.language as tl

from octavo.kernels import reference, reference_sampling, sampling, sampling_tiles
from octavo.kernels.reference_sampling import CHUNK, INVALID_TOKEN, uniforms

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FAMILIES = pytest.mark.parametrize("family", [reference, sampling])
MANY_ROWS = pytest.mark.parametrize(
    "family", [reference, pytest.param(sampling, marks=pytest.mark.gpu)]
)
TIED = torch.tensor([0.25, 0.25, 0.25, 0.125, 0.0625, 0.0625]).log()
"""Probabilities of which ids 0 to 2 tie: a filter keeps or drops them together."""
KEPT: list[tuple[dict[str, Any], set[int]]] = [
    ({"top_k": [2]}, {0, 1, 2}),
    ({"top_k": [4]}, {0, 1, 2, 3}),
    ({"top_p": [0.5]}, {0, 1, 2}),
    ({"top_p": [0.8]}, {0, 1, 2, 3}),
    ({"min_p": [0.4]}, {0, 1, 2, 3}),
    ({"min_p": [0.6]}, {0, 1, 2}),
    ({"top_k": [3], "top_p": [0.95], "min_p": [0.01]}, {0, 1, 2}),
    ({"top_k": [4], "top_p": [0.85]}, {0, 1, 2}),
]


def _draw(
    family: Any,
    logits: torch.Tensor,
    temperature: list[float],
    top_k: list[int] | None = None,
    top_p: list[float] | None = None,
    min_p: list[float] | None = None,
    seeds: list[int] | None = None,
    positions: list[int] | None = None,
    random: bool = True,
) -> list[int]:
    rows = len(temperature)
    filtered = any(given is not None for given in (top_k, top_p, min_p))
    ids: torch.Tensor = family.sample(
        logits.to(DEVICE),
        torch.tensor(temperature, device=DEVICE),
        torch.tensor(top_k or [0] * rows, dtype=torch.int32, device=DEVICE),
        torch.tensor(top_p or [1.0] * rows, device=DEVICE),
        torch.tensor(min_p or [0.0] * rows, device=DEVICE),
        torch.tensor(seeds or list(range(rows)), dtype=torch.int64, device=DEVICE),
        torch.tensor(positions or [0] * rows, dtype=torch.int32, device=DEVICE),
        random=random,
        filtered=filtered,
    )
    assert ids.dtype == torch.int32
    return ids.tolist()


def _logits(rows: int, vocab: int) -> torch.Tensor:
    return 3 * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(vocab))


@triton.jit  # type: ignore[untyped-decorator]
def _uniform_kernel(
    out_ptr: tl.tensor, seed_ptr: tl.tensor, position_ptr: tl.tensor, BLOCK: tl.constexpr
) -> None:
    at = tl.arange(0, BLOCK)
    noise = sampling_tiles.uniforms(
        at, tl.load(position_ptr), tl.load(seed_ptr), sampling_tiles.OF_IDS
    )
    tl.store(out_ptr + at, noise)


@pytest.mark.parametrize(
    "seed", [0, 1, 2**32 - 1, 2**32, -1, -(2**63), 2**63 - 1, 0x1234567890ABCDEF]
)
@pytest.mark.parametrize("position", [0, 1, 131071])
def test_uniforms_are_the_references_bit_for_bit(seed: int, position: int) -> None:
    seeds = torch.tensor([seed], device=DEVICE)
    positions = torch.tensor([position], dtype=torch.int32, device=DEVICE)
    got = torch.empty(1, 1024, device=DEVICE)
    _uniform_kernel[(1,)](got, seeds, positions, BLOCK=1024)
    index = torch.arange(1024, device=DEVICE)[None, :]
    assert torch.equal(got, uniforms(seeds, positions, index))


@FAMILIES
def test_greedy_takes_the_lowest_of_equals(family: Any) -> None:
    logits = torch.zeros(3, 9000)
    logits[0, [8500, 17, 4200]] = 5.0
    logits[1, 8999] = 1.0
    for random in (False, True):
        assert _draw(family, logits, [0.0] * 3, random=random) == [17, 8999, 0]


@FAMILIES
def test_a_nan_invalidates_its_row_only(family: Any) -> None:
    logits = _logits(3, 5000)
    logits[0, 4999] = float("nan")
    logits[2, 0] = float("nan")
    clean = _logits(3, 5000)
    expected = [INVALID_TOKEN, _draw(family, clean, [1.0] * 3)[1], INVALID_TOKEN]
    assert _draw(family, logits, [1.0, 1.0, 0.0]) == expected
    assert _draw(family, logits, [1.0, 1.0, 0.0], top_k=[2, 0, 2]) == expected


def _broken(vocab: int, dtype: torch.dtype) -> torch.Tensor:
    """Six rows: NaN, +inf, both, and nothing but -inf; the others are sound, one of them barely."""
    logits = _logits(6, vocab).to(dtype)
    logits[0, vocab - 1] = float("nan")
    logits[1, vocab // 2] = float("inf")
    logits[2, [0, vocab - 1]] = torch.tensor([float("inf"), float("nan")], dtype=dtype)
    logits[3] = float("-inf")
    logits[4] = float("-inf")
    logits[4, vocab - 2] = -80.0
    return logits


BROKEN_MODES: list[dict[str, Any]] = [
    {"temperature": [0.0] * 6, "random": False},
    {"temperature": [1.0] * 6},
    {"temperature": [1.0] * 6, "top_k": [3] * 6, "top_p": [0.5] * 6},
    {"temperature": [0.0, 1.0] * 3, "top_p": [0.9] * 6, "min_p": [0.0, 0.1] * 3},
]


@FAMILIES
@pytest.mark.parametrize("mode", BROKEN_MODES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rows_without_sound_numbers_are_invalid(family: Any, mode: dict[str, Any]) -> None:
    """One that has a single finite logit is sound: the others may be banned."""
    ids = _draw(family, _broken(2500, torch.float32), **mode)
    assert ids == [INVALID_TOKEN] * 4 + [2498, _draw(family, _logits(6, 2500), **mode)[5]]


@pytest.mark.gpu
@pytest.mark.parametrize("mode", BROKEN_MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_without_sound_numbers_are_invalid_on_a_gpu(
    mode: dict[str, Any], dtype: torch.dtype
) -> None:
    ids = _draw(sampling, _broken(128256, dtype), **mode)
    assert ids[:5] == [INVALID_TOKEN] * 4 + [128254]
    assert 0 <= ids[5] < 128256


def _mixed(rows: int) -> dict[str, Any]:
    """Every combination of filters, on and off, greedy rows between."""
    return {
        "temperature": [(0.0, 0.3, 1.0, 1.7, 0.9)[row % 5] for row in range(rows)],
        "top_k": [(0, 1, 40, -1, 0, 2000, 0, 130)[row % 8] for row in range(rows)],
        "top_p": [(1.0, 0.9, 0.3)[row % 3] for row in range(rows)],
        "min_p": [(0.0, 0.0, 0.05, 0.0, 0.0, 0.0, 0.2)[row % 7] for row in range(rows)],
        "seeds": [row * 0x9E3779B97F4A7C15 % 2**63 for row in range(rows)],
        "positions": [row * 7 for row in range(rows)],
    }


@pytest.mark.parametrize(
    ("rows", "vocab", "dtype"),
    [
        (12, 4999, torch.float32),
        (4, 9001, torch.float16),
        pytest.param(420, 128256, torch.float32, marks=pytest.mark.gpu),
        pytest.param(420, 151936, torch.bfloat16, marks=pytest.mark.gpu),
    ],
)
def test_ids_are_the_references(rows: int, vocab: int, dtype: torch.dtype) -> None:
    """On a GPU a logarithm may differ in its last bit from torch's: hardly ever in the winner."""
    logits = _logits(rows, vocab).to(dtype)
    given = _mixed(rows)
    pairs = list(
        zip(_draw(sampling, logits, **given), _draw(reference, logits, **given), strict=True)
    )
    wrong = sum(got != expected for got, expected in pairs)
    assert wrong <= rows // 100


@MANY_ROWS
@pytest.mark.parametrize(("filters", "kept"), KEPT)
def test_filters_keep_what_they_must(family: Any, filters: dict[str, Any], kept: set[int]) -> None:
    rows = {name: values * 200 for name, values in filters.items()}
    assert set(_draw(family, TIED.repeat(200, 1), [1.0] * 200, **rows)) == kept


def test_tied_ids_are_filtered_as_in_the_reference() -> None:
    cases = [filters for filters, _ in KEPT for _ in range(3)]
    off: dict[str, Any] = {"top_k": [0], "top_p": [1.0], "min_p": [0.0]}
    rows: dict[str, Any] = {
        name: [(case.get(name) or off[name])[0] for case in cases] for name in off
    }
    logits, temperature = TIED.repeat(len(cases), 1), [1.0] * len(cases)
    drawn = _draw(sampling, logits, temperature, **rows)
    assert drawn == _draw(reference, logits, temperature, **rows)


def _same_ids(logits: torch.Tensor, rows: int = 2, **filters: Any) -> list[int]:
    """The ids that kernels and reference both draw from the one row of `logits`."""
    given: dict[str, Any] = {name: [value] * rows for name, value in filters.items()}
    many = logits.repeat(rows, 1)
    drawn = _draw(sampling, many, [1.0] * rows, **given)
    assert drawn == _draw(reference, many, [1.0] * rows, **given)
    return drawn


def _same_kept(
    logits: torch.Tensor,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    slack: int = 0,
) -> int:
    """How many ids of the one row of `logits` kernels and reference both keep.

    `slack`: how many they may differ by, where an id's share is within float32's rounding.
    """
    one, row = torch.ones(1, device=DEVICE), logits.to(DEVICE)
    filters = ((one * top_k).int(), one * top_p, one * min_p)
    maxima, sums = sampling._chunks(row, one)
    threshold = sampling._thresholds(row, one, *filters, maxima, sums)
    kept = (row >= threshold[:, None]) & (row > float("-inf"))
    expected = reference_sampling._filter(row.float(), one[:, None], *filters) > float("-inf")
    assert int((kept != expected).sum()) <= slack
    return int(kept.sum())


@pytest.mark.parametrize("vocab", [1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
@pytest.mark.parametrize("filters", [{}, {"top_k": 3}, {"top_p": 0.7}])
def test_any_vocabulary_is_cut_in_chunks(vocab: int, filters: dict[str, Any]) -> None:
    _same_ids(_logits(1, vocab), **filters)
    _same_kept(_logits(1, vocab), **filters)


@pytest.mark.parametrize("top_k", [2, 4, 5, 6, 100, 4000])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.2])
def test_top_k_around_and_above_the_number_of_chunks(top_k: int, top_p: float) -> None:
    kept = _same_kept(_logits(1, 4999), top_k, top_p)
    assert kept == top_k if top_p == 1.0 else 0 < kept < top_k + (top_p == 0.9)


@pytest.mark.parametrize("value", [0.0, 2.5, -7.0])
@pytest.mark.parametrize("filters", [{"top_k": 5}, {"top_p": 0.1}, {"top_k": 50, "top_p": 0.5}])
def test_equal_logits_all_stay(value: float, filters: dict[str, Any]) -> None:
    logits = torch.full((1, 5000), value)
    assert _same_kept(logits, **filters) == 5000
    assert len(set(_same_ids(logits, **filters))) == 2


@pytest.mark.parametrize("filters", [{"top_k": 5}, {"top_k": 40, "top_p": 0.999}, {"top_p": 0.9}])
def test_more_ties_than_there_is_room_for(filters: dict[str, Any]) -> None:
    """Nearly all logits tie at the threshold: the row itself is searched."""
    logits = torch.full((1, sampling.ROOM + 3000), 1.0)
    logits[0, [5, 9000]] = 2.0
    assert _same_kept(logits, **filters) == sampling.ROOM + 3000


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999, 1e-30])
@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0, 30.0])
def test_top_p_alone_on_flat_and_peaked_rows(top_p: float, spread: float) -> None:
    _same_kept(_logits(1, 6000) / 3 * spread, top_p=top_p, slack=1)


@pytest.mark.parametrize("min_p", [0.001, 0.3, 1.0])
@pytest.mark.parametrize("others", [{}, {"top_k": 30}, {"top_p": 0.8}, {"top_k": 30, "top_p": 0.8}])
def test_min_p_with_each_other_filter(min_p: float, others: dict[str, Any]) -> None:
    _same_kept(_logits(1, 6000), min_p=min_p, **others)


@pytest.mark.parametrize("top_k", [3, 20, 500])
def test_masked_vocabularies_keep_what_is_allowed(top_k: int) -> None:
    logits = torch.full((1, 9000), float("-inf"))
    logits[0, [3, 77, 5000, 5001, 8999]] = torch.tensor([1.0, 1.5, 0.5, 1.0, 0.7])
    assert _same_kept(logits, top_k) == min(top_k, 5)
    assert set(_same_ids(logits, top_k=top_k)) <= {3, 77, 5000, 5001, 8999}


@pytest.mark.parametrize("filters", [{"top_k": 40}, {"top_k": 700}, {"top_p": 0.6}])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ties_of_16_bits(dtype: torch.dtype, filters: dict[str, Any]) -> None:
    _same_kept(_logits(1, 6000).to(dtype), **filters)
    _same_ids(_logits(1, 6000).to(dtype), **filters)


def test_temperatures_near_0_and_very_high() -> None:
    logits, rows = _logits(4, 3000), 4
    given: dict[str, Any] = {"temperature": [1e-30, 1e-4, 100.0, 1e6], "top_p": [0.9] * rows}
    drawn = _draw(sampling, logits, **given)
    assert drawn == _draw(reference, logits, **given)
    assert drawn[:2] == logits[:2].argmax(-1).tolist()


@MANY_ROWS
def test_draws_follow_the_softmax_across_chunks(family: Any) -> None:
    """Chi-square over 6 ids in 3 chunks, 5 degrees of freedom: 20.5 is its 0.999 quantile."""
    rows, at = 2000, [0, 1, CHUNK, CHUNK + 9, 2 * CHUNK + 1, 3 * CHUNK - 1]
    scores = torch.tensor([1.0, 0.5, 0.0, -0.5, 2.0, -3.0])
    logits = torch.full((3 * CHUNK,), float("-inf")).index_copy(0, torch.tensor(at), scores)
    drawn = _draw(
        family, logits.repeat(rows, 1), [1.0] * rows, seeds=[12] * rows,
        positions=list(range(rows)),
    )  # fmt: skip
    observed = torch.bincount(torch.tensor(drawn), minlength=3 * CHUNK)[at]
    expected = rows * scores.softmax(0)
    assert int(observed.sum()) == rows
    assert float(((observed - expected) ** 2 / expected).sum()) < 20.5


@MANY_ROWS
def test_draws_follow_the_softmax(family: Any) -> None:
    """Chi-square over 6 ids, 5 degrees of freedom: 20.5 is its 0.999 quantile."""
    rows, temperature = 2000, 0.8
    scores = torch.tensor([1.0, 0.5, 0.0, -0.5, 2.0, -3.0])
    drawn = _draw(
        family, scores.repeat(rows, 1), [temperature] * rows, seeds=[11] * rows,
        positions=list(range(rows)),
    )  # fmt: skip
    expected = rows * (scores / temperature).softmax(0)
    observed = torch.bincount(torch.tensor(drawn), minlength=6)
    assert float(((observed - expected) ** 2 / expected).sum()) < 20.5


def test_an_id_does_not_depend_on_its_batch() -> None:
    logits, given = _logits(6, 3000), _mixed(6)
    together = _draw(sampling, logits, **given)
    for row in range(6):
        alone = {name: values[row : row + 1] for name, values in given.items()}
        assert _draw(sampling, logits[row : row + 1], **alone) == together[row : row + 1]


def test_no_rows_give_no_ids() -> None:
    assert _draw(sampling, torch.zeros(0, 10), []) == []


def test_parameters_of_another_dtype_are_refused() -> None:
    half, none = torch.ones(1, dtype=torch.float64, device=DEVICE), torch.zeros(1, device=DEVICE)
    with pytest.raises(ValueError, match="temperature"):
        sampling.sample(
            torch.zeros(1, 8, device=DEVICE), half, none.int(), none, none, none.long(), none.int(),
            random=True, filtered=False,
        )  # fmt: skip
