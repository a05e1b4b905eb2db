"""Grammars compiled against a model's tokenizer, under limits.

`vocabulary` takes about 10 microseconds a token, once a process. `compile_grammar` takes
milliseconds as a rule and at worst seconds, so it runs in the helper process (`services/grammar`)
before anything else sees a grammar, and in a thread where matchers live.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llguidance import (
    LLMatcher,
    LLParserLimits,
    LLTokenizer,
    TokenizerWrapper,
    regex_to_lark,
)
from llguidance.gbnf_to_lark import any_to_lark

from octavo.shared.errors import ConfigError
from octavo.shared.foreign import told
from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.text.tokenizer import Tokenizer

MAX_MESSAGE = 400
"""Characters of llguidance's words that reach a client."""
TOO_COMPLEX = "it is too complex to compile within the limits of time and memory"
NO_TEXT = "no text matches it"
MAX_LEXER_STATES = 20_000
"""Of 0.5 to 1.2 kB each: bounds the memory of one matcher."""
STEP_LEXER_FUEL = 200_000
"""Bounds the time of one mask: about 15 ms."""


class GrammarError(Exception):
    """A grammar that cannot be used; the message is about the client's own text."""


def limits() -> LLParserLimits:
    return LLParserLimits(
        max_lexer_states=MAX_LEXER_STATES,
        step_lexer_fuel=STEP_LEXER_FUEL,
        verbose_errors=False,
    )


class _Vocabulary:
    """A tokenizer as llguidance's `TokenizerWrapper` wants it.

    The bytes are those that our detokenizer shows, so a text that the grammar allows is the text
    that the client gets. Ids past the tokenizer's stand for no bytes, which no grammar allows.
    """

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_token_id: int) -> None:
        self.eos_token_id = eos_token_id
        self.tokens = tokenizer.vocabulary(vocab_size)
        self.special_token_ids = sorted(i for i in tokenizer.special_ids if i < vocab_size)
        self._tokenizer = tokenizer

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)


def vocabulary(tokenizer: Tokenizer, vocab_size: int, eos_token_ids: Sequence[int]) -> LLTokenizer:
    """`vocab_size` is the model's: the width of its logits.

    Raises ConfigError for a model without an end-of-sequence token, which cannot be told to stop.
    """
    eos = [i for i in eos_token_ids if 0 <= i < vocab_size]
    if not eos:
        raise ConfigError("Structured output needs a model with an end-of-sequence token.")
    wrapped = TokenizerWrapper(_Vocabulary(tokenizer, vocab_size, eos[0]))
    return LLTokenizer(wrapped, n_vocab=vocab_size, eos_token=eos)


def source(spec: GrammarSpec) -> str:
    """What llguidance compiles. Raises GrammarError for a kind that must be translated first."""
    match spec.kind:
        case "json_schema":
            return f'{{"grammars": [{{"json_schema": {spec.text}}}]}}'
        case "regex":
            # \d, \w and \s of ASCII, as JSON schema's patterns and other servers have them.
            return str(LLMatcher.grammar_from_lark(f"start: /{regex_to_lark(spec.text, 'dws')}/"))
        case "lark":
            return str(LLMatcher.grammar_from_lark(spec.text))
    raise GrammarError("an EBNF grammar that has not been translated")


def translate(spec: GrammarSpec) -> GrammarSpec:
    """EBNF as Lark; other kinds as they are. Raises GrammarError."""
    if spec.kind != "ebnf":
        return spec
    try:
        return GrammarSpec("lark", any_to_lark(spec.text))
    except RecursionError:
        raise GrammarError("it is nested too deeply") from None
    except Exception as error:  # the library raises bare ones
        raise GrammarError(brief(str(error))) from error


def compile_grammar(spec: GrammarSpec, vocabulary: LLTokenizer) -> LLMatcher:
    """A matcher at its start, to be copied, with its first mask computed: a copy has it cheaply.

    Raises GrammarError for a grammar that is wrong, too complex, or matches no text at all.
    """
    core = LLMatcher(vocabulary, source(spec), log_level=0, limits=limits())
    mask = np.zeros(-(-vocabulary.vocab_size // 32), np.int32)
    if not core.is_error():
        core.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
    if core.is_error():
        raise GrammarError(brief(core.get_error()))
    if core.is_stopped() and not core.is_accepting():
        raise GrammarError(NO_TEXT)
    return core


def brief(message: str) -> str:
    """llguidance's message as far as it speaks of the grammar: no dump of its state or its stack,
    nothing of this machine, and cut to a length."""
    message = message.partition("\n<")[0].strip()
    if message.startswith("panic"):
        return TOO_COMPLEX
    if message.startswith("NoExtension"):
        return NO_TEXT
    return "\n".join(told(line, MAX_MESSAGE) for line in message.splitlines())[:MAX_MESSAGE]
