"""Bad words as ids, for both kinds of tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
from front_tokenizers import byte_fallback_folder, load_byte_level

from octavo.shared.errors import InvalidRequest
from octavo.shared.sampling import SamplingParams
from octavo.shared.text.bad_words import bad_words_ids, with_bad_words
from octavo.shared.text.tokenizer import Tokenizer


def test_with_and_without_a_space(tmp_path: Path) -> None:
    tokenizer = load_byte_level(tmp_path)
    forms = bad_words_ids(["hello", " two"], tokenizer)
    assert [tokenizer.decode(ids) for ids in forms] == ["hello", " hello", "two", " two"]


def test_a_space_of_the_tokenizers_own_is_no_second_form(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(byte_fallback_folder(tmp_path))
    assert bad_words_ids(["Hello"], tokenizer)[0] == tokenizer.encode("Hello", False)
    assert all(ids[1:] != bad_words_ids(["ab"], tokenizer)[0] for ids in [[0, 1]])


@pytest.mark.parametrize("words", [[""], ["  "], ["x" * 257], ["x"] * 257])
def test_bounds(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        SamplingParams(bad_words=words).verify(100)
    assert caught.value.param == "bad_words"


def test_the_edge_fills_in_the_ids(tmp_path: Path) -> None:
    tokenizer = load_byte_level(tmp_path)
    filled = with_bad_words(SamplingParams(bad_words=["hello"]), tokenizer.vocab_size, tokenizer)
    assert filled.bad_words_ids == bad_words_ids(["hello"], tokenizer)
    with pytest.raises(InvalidRequest):
        with_bad_words(SamplingParams(bad_words=["hello"]), 3, tokenizer)
    plain = SamplingParams()
    assert with_bad_words(plain, 100, tokenizer) is plain
