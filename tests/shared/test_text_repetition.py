"""RepetitionDetector against the definition, read off the whole output each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from octavo.shared.sampling import RepetitionDetection
from octavo.shared.text.repetition import RepetitionDetector


def repeats(ids: list[int], asked: RepetitionDetection) -> bool:
    sizes = range(max(asked.min_pattern_size, 1), asked.max_pattern_size + 1)
    return any(
        len(ids) >= size * asked.min_count
        and ids[-size * asked.min_count :] == ids[-size:] * asked.min_count
        for size in sizes
    )


@given(
    st.lists(st.integers(0, 2), max_size=60),
    st.integers(0, 3),
    st.integers(0, 4),
    st.integers(2, 4),
)
def test_as_defined(ids: list[int], smallest: int, more: int, count: int) -> None:
    asked = RepetitionDetection(
        min_pattern_size=smallest, max_pattern_size=smallest + more, min_count=count
    )
    detector = RepetitionDetector(asked)
    for end, token_id in enumerate(ids, 1):
        assert detector.push(token_id) == repeats(ids[:end], asked)


def test_remembers_no_more_than_a_pattern_needs() -> None:
    asked = RepetitionDetection(min_pattern_size=1, max_pattern_size=8, min_count=2)
    detector = RepetitionDetector(asked)
    for token_id in range(10_000):
        detector.push(token_id)
    assert len(detector._tail) <= 4 * 8
