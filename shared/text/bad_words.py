"""Bad words as token ids: the ways in which a tokenizer writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from octavo.shared.sampling import SamplingParams
from octavo.shared.text.tokenizer import Tokenizer


def with_bad_words(params: SamplingParams, vocab_size: int, tokenizer: Tokenizer) -> SamplingParams:
    """The same parameters with the ids of their bad words. Raises InvalidRequest."""
    if not params.bad_words:
        return params
    ids = bad_words_ids(params.bad_words, tokenizer)
    params = msgspec.structs.replace(params, bad_words_ids=ids)
    params.verify(vocab_size)
    return params


def bad_words_ids(words: Iterable[str], tokenizer: Tokenizer) -> list[list[int]]:
    """The ids of each word as it stands at the start of a text and behind a space.

    A tokenizer that puts a space before every text writes both alike but for a space of its own,
    which is no other way to write the word.
    """
    return [ids for word in words for ids in _forms(word.lstrip(), tokenizer)]


def _forms(word: str, tokenizer: Tokenizer) -> Iterator[list[int]]:
    at_start = tokenizer.encode(word, add_special_tokens=False)
    after_space = tokenizer.encode(" " + word, add_special_tokens=False)
    if at_start:
        yield at_start
    if after_space and after_space[:1] != at_start[:1] and after_space[1:] != at_start:
        yield after_space
