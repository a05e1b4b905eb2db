"""`kernels/sampling.py` against the reference and against the distributions it must draw from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
import triton.language as tl

from octavo.kernels import reference, sampling, sampling_tiles
from octavo.kernels.reference_sampling import INVALID_TOKEN, uniforms

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
    assert torch.equal(got, uniforms(seeds, positions, 1024))


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


@FAMILIES
@pytest.mark.parametrize("filters", [{}, {"top_k": [3] * 3, "top_p": [0.5] * 3}])
def test_infinite_logits(family: Any, filters: dict[str, list[float]]) -> None:
    logits = torch.full((3, 5000), float("-inf"))
    logits[0, 4321] = -80.0
    logits[1, :] = 1.0
    logits[1, 777] = float("inf")
    assert _draw(family, logits, [1.0] * 3, **filters) == [4321, 777, 0]  # type: ignore[arg-type]


def _mixed(rows: int) -> dict[str, Any]:
    """Every combination of filters, on and off, greedy rows between."""
    return {
        "temperature": [(0.0, 0.3, 1.0, 1.7, 0.9)[row % 5] for row in range(rows)],
        "top_k": [(0, 1, 40, -1)[row % 4] for row in range(rows)],
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
