"""Random walks through a grammar: ids chosen by the mask alone, as a model without sense would."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from llguidance import LLTokenizer

from octavo.shared.grammar.cache import matcher_of
from octavo.shared.grammar.compiling import compile_grammar, translate, vocabulary
from octavo.shared.grammar.matcher import Masks, Matcher, mask_words
from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.text.tokenizer import Tokenizer

MODEL = Path(__file__).parents[2] / "services" / "demo" / "model"
EOS = [2, 0]
VOCAB = 4096
PADDED = 4100
"""As some checkpoints pad their embeddings: the last four ids have no token."""


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.load(MODEL)


@cache
def padded_vocabulary() -> LLTokenizer:
    return vocabulary(tokenizer(), PADDED, EOS)


def new_matcher(spec: GrammarSpec) -> Matcher:
    return matcher_of(compile_grammar(translate(spec), padded_vocabulary()))


def new_mask() -> Masks:
    return np.zeros(mask_words(PADDED), np.int32)


def allowed(mask: Masks) -> npt.NDArray[np.int64]:
    """The ids whose bits are set, those past the vocabulary included."""
    return np.unpackbits(mask.view(np.uint8), bitorder="little").nonzero()[0]


@cache
def closing_ids() -> frozenset[int]:
    """Tokens that tend to end something."""
    return frozenset(
        i for i, text in enumerate(tokenizer().vocabulary(VOCAB)) if text[:1] in b'"}],' and text
    )


@cache
def blank_ids() -> frozenset[int]:
    tokens = enumerate(tokenizer().vocabulary(VOCAB))
    return frozenset(i for i, text in tokens if text and not text.strip())


def walk(matcher: Matcher, rng: random.Random, max_tokens: int, hurry_after: int) -> list[int]:
    """Ids up to the end of the grammar, of the matcher's limits, or of `max_tokens`. Blanks are
    rare, and after `hurry_after` ids what may end is made to."""
    mask, ids = new_mask(), list[int]()
    while len(ids) < max_tokens and not matcher.is_stopped:
        matcher.fill_mask(mask)
        choices = allowed(mask)
        assert len(choices), "a matcher that has not stopped allows something"
        if matcher.is_stopped:
            break
        token_id = _choose(choices.tolist(), matcher, rng, hurry=len(ids) >= hurry_after)
        if token_id in EOS:
            break
        if not matcher.accept([token_id]):
            break
        ids.append(token_id)
    return ids


def _choose(choices: list[int], matcher: Matcher, rng: random.Random, hurry: bool) -> int:
    ends = [i for i in choices if i in EOS]
    assert bool(ends) == matcher.is_accepting
    if ends and (hurry or rng.random() < 0.2):
        return ends[0]
    choices = [i for i in choices if i not in EOS]
    closing = [i for i in choices if i in closing_ids()]
    if closing and rng.random() < (0.95 if hurry else 0.3):
        return rng.choice(closing)
    solid = [i for i in choices if i not in blank_ids()]
    return rng.choice(solid if solid and rng.random() < 0.95 else choices)


def text_of(ids: list[int]) -> str:
    """Strict UTF-8: a grammar never ends in the middle of a character."""
    return b"".join(map(tokenizer().id_to_bytes, ids)).decode()
