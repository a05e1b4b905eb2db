"""Structured outputs of the library: a grammar, compiled once here so that errors come early."""

from __future__ import annotations

import functools

from octavo.shared.config import ModelInfo
from octavo.shared.errors import InvalidRequest
from octavo.shared.grammar.compiling import GrammarError, compile_grammar, translate, vocabulary
from octavo.shared.grammar.request import StructuredOutputs, structured_outputs_spec
from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.text.tokenizer import Tokenizer

REMEMBERED = 256


class Grammars:
    """No helper process and no limit but llguidance's own: the caller's grammars are trusted."""

    def __init__(self, tokenizer: Tokenizer, model: ModelInfo) -> None:
        self._vocabulary = functools.cache(
            lambda: vocabulary(tokenizer, model.vocab_size, model.eos_token_ids)
        )
        self._check = functools.lru_cache(REMEMBERED)(self._compile)

    def spec(self, asked: StructuredOutputs) -> GrammarSpec:
        """Raises InvalidRequest."""
        return self._check(structured_outputs_spec(asked))

    def _compile(self, spec: GrammarSpec) -> GrammarSpec:
        try:
            checked = translate(spec)
            compile_grammar(checked, self._vocabulary())
        except GrammarError as error:
            raise InvalidRequest(
                f"structured_outputs cannot be used: {error}.", param="structured_outputs"
            ) from error
        return checked
