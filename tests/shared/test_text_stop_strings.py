from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.shared.text.stop_strings import StopStrings

steady = settings(deadline=None, derandomize=True)

letters = st.text(alphabet="ab", min_size=1, max_size=5)


def expected(text: str, stops: list[str], include: bool) -> tuple[str, str | None]:
    """The plain way: the first position where a stop string ends, the longest of those."""
    for end in range(1, len(text) + 1):
        hits = [stop for stop in stops if text[:end].endswith(stop)]
        if hits:
            stop = max(hits, key=len)
            return text[:end] if include else text[: end - len(stop)], stop
    return text, None


def run(pieces: list[str], stops: list[str], include: bool = False) -> tuple[str, str | None]:
    watch = StopStrings(stops, include)
    out = ""
    for piece in pieces:
        out += watch.push(piece)
        if watch.hit is not None:
            return out, watch.hit
    return out + watch.flush(), None


@steady
@given(st.lists(st.text(alphabet="abc", max_size=4)), st.lists(letters, max_size=4), st.booleans())
def test_streamed_equals_unstreamed(pieces: list[str], stops: list[str], include: bool) -> None:
    assert run(pieces, stops, include) == expected("".join(pieces), stops, include)


@steady
@given(st.text(alphabet="abc", max_size=30), st.lists(letters, min_size=1, max_size=4))
def test_holds_back_only_what_can_still_stop(text: str, stops: list[str]) -> None:
    watch = StopStrings(stops)
    shown = watch.push(text)
    if watch.hit is not None:
        return
    held = text[len(shown) :]
    tails = [text[i:] for i in range(len(text))]
    could = [tail for tail in tails if any(stop.startswith(tail) for stop in stops)]
    assert held == max(could, key=len, default="")


def test_across_token_borders() -> None:
    assert run(["one ST", "O", "P two"], ["STOP"]) == ("one ", "STOP")
    assert run(["one ST", "O", "P two"], ["STOP"], include=True) == ("one STOP", "STOP")


def test_a_near_miss_is_released() -> None:
    watch = StopStrings(["STOP"])
    assert watch.push("a ST") == "a "
    assert watch.push("O!") == "STO!"
    assert watch.flush() == ""


def test_the_longer_of_two_that_end_together() -> None:
    assert run(["xab"], ["b", "ab"]) == ("x", "ab")


def test_no_stop_strings_hold_nothing() -> None:
    watch = StopStrings([])
    assert watch.push("abc") == "abc"
    assert watch.hit is None


def test_hostile_patterns_stay_linear() -> None:
    stops = ["a" * 250 + str(i % 10) * (1 + i // 10) for i in range(16)]
    watch = StopStrings(stops)
    started = time.perf_counter()
    for _ in range(20_000):
        watch.push("a")
    assert time.perf_counter() - started < 5
    assert watch.flush() == "a" * 250
