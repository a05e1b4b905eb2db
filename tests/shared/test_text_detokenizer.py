from __future__ import annotations

import time
from pathlib import Path

import pytest
from front_tokenizers import byte_fallback_folder, byte_level_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.shared.text.detokenizer import Detokenizer
from octavo.shared.text.tokenizer import Tokenizer

steady = settings(deadline=None, derandomize=True)


@pytest.fixture(scope="module", params=[byte_level_folder, byte_fallback_folder])
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    return Tokenizer.load(request.param(folder))


def stream(tokenizer: Tokenizer, ids: list[int], skip: bool) -> list[str]:
    detokenizer = tokenizer.detokenizer(skip)
    return [*(detokenizer.push(i) for i in ids), detokenizer.flush()]


@steady
@given(data=st.data(), skip=st.booleans())
def test_streamed_equals_whole(tokenizer: Tokenizer, data: st.DataObject, skip: bool) -> None:
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 2), max_size=60))
    text = "".join(stream(tokenizer, ids, skip))
    whole = tokenizer.decode(ids, skip_special_tokens=skip)
    assert text in (whole, " " * tokenizer.dropped_spaces + whole)


@steady
@given(text=st.text(max_size=40))
def test_valid_text_streams_without_replacement(tokenizer: Tokenizer, text: str) -> None:
    if "\ufffd" in text or "\u2581" in text:
        return
    ids = tokenizer.encode(text, add_special_tokens=False)
    pieces = stream(tokenizer, ids, True)
    assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) in (text, " " + text)


def test_never_half_a_character() -> None:
    pieces = {i: bytes([byte]) for i, byte in enumerate("😀é".encode())}
    detokenizer = Detokenizer(pieces.__getitem__)
    assert [detokenizer.push(i) for i in pieces] == ["", "", "", "😀", "", "é"]
    assert detokenizer.flush() == ""


def test_an_unfinished_character_shows_at_the_end() -> None:
    detokenizer = Detokenizer({0: b"a\xf0\x9f"}.__getitem__)
    assert detokenizer.push(0) == "a"
    assert detokenizer.flush() == "\ufffd"


def test_a_skipped_token_does_not_break_a_character() -> None:
    pieces = {0: b"\xc3", 1: b"<skip>", 2: b"\xa4"}
    detokenizer = Detokenizer(pieces.__getitem__, {1})
    assert [detokenizer.push(i) for i in (0, 1, 2)] == ["", "", "ä"]


def test_endless_invalid_bytes_cost_no_more_per_token() -> None:
    detokenizer = Detokenizer({0: b"\xff"}.__getitem__)
    held = Detokenizer({0: b"\xe4\xbd"}.__getitem__)
    started = time.perf_counter()
    shown = sum(len(detokenizer.push(0)) + len(held.push(0)) for _ in range(100_000))
    # Quadratic work would take minutes.
    assert time.perf_counter() - started < 5
    assert shown == 199_999
