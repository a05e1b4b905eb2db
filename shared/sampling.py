"""SamplingParams: what a caller asks of generation. The library's public struct, and the wire's."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import msgspec

from octavo.shared.errors import InvalidRequest
from octavo.shared.grammar.request import StructuredOutputs
from octavo.shared.grammar.spec import GrammarSpec

MAX_N = 16
MAX_LOGPROBS = 20
MAX_STOP_STRINGS = 16
MAX_STOP_BYTES = 256
MAX_STOP_TOKEN_IDS = 256
MAX_LOGIT_BIAS = 1024
MAX_ALLOWED_IDS = 2**19
MAX_BAD_WORDS = 256
MAX_BAD_WORD_CHARS = 256
MAX_PATTERN = 128
MAX_SEED = 2**63 - 1
SEED_STRIDE = 0x9E3779B97F4A7C15
"""Odd, so that the seeds of one request's choices are all different (golden ratio, 64 bits)."""


PatternSize: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_PATTERN)]


class RepetitionDetection(msgspec.Struct, frozen=True, kw_only=True):
    """Ends an output whose last tokens are one pattern, `min_count` times in a row.

    Patterns of `min_pattern_size` (0 is 1) to `max_pattern_size` tokens; 0 looks for none.
    """

    max_pattern_size: PatternSize = 0
    min_pattern_size: PatternSize = 0
    min_count: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0

    def verify(self) -> None:
        if not 0 <= self.min_pattern_size <= self.max_pattern_size <= MAX_PATTERN:
            raise InvalidRequest(
                "repetition_detection: the pattern sizes must be 0 <= min_pattern_size <= "
                f"max_pattern_size <= {MAX_PATTERN}.",
                param="repetition_detection",
            )
        if self.max_pattern_size and not 2 <= self.min_count <= 4096:
            raise InvalidRequest(
                "repetition_detection: min_count must be between 2 and 4096.",
                param="repetition_detection",
            )


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sampling parameters with vLLM's names and meanings.

    `temperature` 0 is greedy. `top_k` 0 or -1 is off. `seed` None means that the edge draws one:
    past the edge it is always set, for the noise of a token is a function of (seed, position).
    `max_tokens` None means up to the context's end. `logprobs` k asks for the sampled token's
    log-probability and the k most likely ones, of the raw model distribution (before temperature,
    penalties and masks); `prompt_logprobs` asks the same for each prompt token but the first.
    `eos_token_ids` is filled in by the edge from the model's files, never by a client.

    `allowed_token_ids` None allows all. `bad_words_ids` are the ways in which the tokenizer writes
    `bad_words`; the edge fills them in. `structured_outputs` is what a caller of the library sets,
    and the edge makes `grammar` of it. That holds for what follows `reasoning_end_ids` in the
    output, from its start where they are empty, or where `reasoning_begin_ids` are set and the
    output does not begin with the first of them. After `thinking_token_budget` tokens of output
    without `reasoning_end_ids` these ids are forced.
    """

    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: list[str] = msgspec.field(default_factory=list)
    stop_token_ids: list[int] = msgspec.field(default_factory=list)
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: dict[int, float] = msgspec.field(default_factory=dict)
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] = msgspec.field(default_factory=list)
    bad_words_ids: list[list[int]] = msgspec.field(default_factory=list)
    structured_outputs: StructuredOutputs | None = None
    grammar: GrammarSpec | None = None
    thinking_token_budget: int | None = None
    reasoning_begin_ids: list[int] = msgspec.field(default_factory=list)
    reasoning_end_ids: list[int] = msgspec.field(default_factory=list)
    skip_special_tokens: bool = True
    eos_token_ids: list[int] = msgspec.field(default_factory=list)
    repetition_detection: RepetitionDetection | None = None

    @property
    def greedy(self) -> bool:
        return self.temperature < 1e-5

    @property
    def stop_ids(self) -> frozenset[int]:
        """Every token id that ends the output; a grammar ends by an EOS, ignored or not."""
        ignored = self.ignore_eos and self.grammar is None
        eos: Sequence[int] = () if ignored else self.eos_token_ids
        return frozenset(self.stop_token_ids).union(eos)

    @property
    def is_constrained(self) -> bool:
        """Whether what may come next depends on masks."""
        return bool(
            self.grammar is not None
            or self.allowed_token_ids is not None
            or self.bad_words_ids
            or (self.thinking_token_budget is not None and self.reasoning_end_ids)
        )

    @property
    def has_penalties(self) -> bool:
        return (
            self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
            or self.repetition_penalty != 1.0
        )

    def for_choice(self, index: int) -> SamplingParams:
        """The parameters of one of the `n` sequences: n = 1, and a seed of its own.

        The seed follows from the request's seed and `index` alone; without one it is drawn.
        """
        seed = secrets.randbits(63)
        if self.seed is not None:
            seed = (self.seed + index * SEED_STRIDE) & MAX_SEED
        return msgspec.structs.replace(self, n=1, seed=seed)

    def verify(self, vocab_size: int) -> None:
        """Raise InvalidRequest, naming the field, for any value outside its bounds."""
        self._verify_numbers()
        self._verify_counts()
        _verify_ids("stop_token_ids", self.stop_token_ids, vocab_size, MAX_STOP_TOKEN_IDS)
        _verify_ids("logit_bias", self.logit_bias, vocab_size, MAX_LOGIT_BIAS)
        for bias in self.logit_bias.values():
            _between("logit_bias", bias, -100.0, 100.0)
        _verify_stop(self.stop)
        self._verify_masks(vocab_size)
        if self.repetition_detection is not None:
            self.repetition_detection.verify()

    def _verify_masks(self, vocab_size: int) -> None:
        allowed = self.allowed_token_ids
        if allowed is not None:
            if not allowed:
                raise InvalidRequest("allowed_token_ids is empty.", param="allowed_token_ids")
            _verify_ids("allowed_token_ids", allowed, vocab_size, MAX_ALLOWED_IDS)
        if len(self.bad_words) > MAX_BAD_WORDS:
            raise InvalidRequest(
                f"bad_words has {len(self.bad_words)} entries, at most {MAX_BAD_WORDS} allowed.",
                param="bad_words",
            )
        for word in self.bad_words:
            if not 0 < len(word.strip()) <= len(word) <= MAX_BAD_WORD_CHARS:
                raise InvalidRequest(
                    f"Each bad word must have 1 to {MAX_BAD_WORD_CHARS} characters and not be "
                    "all spaces.",
                    param="bad_words",
                )
        for ids in self.bad_words_ids:
            _verify_ids("bad_words", ids, vocab_size, MAX_BAD_WORD_CHARS * 4)

    def _verify_numbers(self) -> None:
        _between("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _between("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _between("repetition_penalty", self.repetition_penalty, 1e-3, 100.0)
        _between("temperature", self.temperature, 0.0, 100.0)
        _between("top_p", self.top_p, 1e-6, 1.0)
        _between("min_p", self.min_p, 0.0, 1.0)

    def _verify_counts(self) -> None:
        _between("n", self.n, 1, MAX_N)
        _between("top_k", self.top_k, -1, 2**31 - 1)
        _between("min_tokens", self.min_tokens, 0, 2**31 - 1)
        if self.seed is not None:
            _between("seed", self.seed, -MAX_SEED - 1, MAX_SEED)
        if self.max_tokens is not None:
            _between("max_tokens", self.max_tokens, 1, 2**31 - 1)
            if self.min_tokens > self.max_tokens:
                raise InvalidRequest(
                    f"min_tokens ({self.min_tokens}) is greater than max_tokens "
                    f"({self.max_tokens}).",
                    param="min_tokens",
                )
        for name in ("logprobs", "prompt_logprobs"):
            if (value := getattr(self, name)) is not None:
                _between(name, value, 0, MAX_LOGPROBS)


def _between(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise InvalidRequest(f"{name} must be between {low} and {high}, got {value}.", param=name)


def _verify_ids(name: str, ids: Sequence[int] | dict[int, float], vocab: int, limit: int) -> None:
    if len(ids) > limit:
        raise InvalidRequest(f"{name} has {len(ids)} entries, at most {limit} allowed.", param=name)
    if ids and not (min(ids) >= 0 and max(ids) < vocab):
        outside = next(token_id for token_id in ids if not 0 <= token_id < vocab)
        raise InvalidRequest(
            f"{name}: token id {outside} is outside the vocabulary (0 to {vocab - 1}).", param=name
        )


def _verify_stop(stop: list[str]) -> None:
    if len(stop) > MAX_STOP_STRINGS:
        raise InvalidRequest(
            f"stop has {len(stop)} entries, at most {MAX_STOP_STRINGS} allowed.", param="stop"
        )
    for text in stop:
        if not 0 < len(text.encode()) <= MAX_STOP_BYTES:
            raise InvalidRequest(
                f"Each stop string must have 1 to {MAX_STOP_BYTES} bytes.", param="stop"
            )
