"""What a process and its grammar helper (`services/grammar`) say to each other.

In msgpack, in the frames of `shared/helper`: first a `HelperConfig`, answered with a `Verdict` once
the vocabulary is loaded; then each question is a `GrammarSpec`, answered with a `Verdict`. A helper
that dies instead found the grammar too complex.
"""

from __future__ import annotations

import msgspec

from octavo.shared.config import EngineConfig, ModelInfo
from octavo.shared.grammar.spec import GrammarSpec


class HelperConfig(msgspec.Struct, frozen=True, kw_only=True):
    tokenizer: str
    """A model directory."""
    vocab_size: int
    eos_token_ids: list[int]
    cpu_seconds: float = 2.0
    """Of processor time for one grammar, so that a busy machine refuses no more than an idle one.
    Beyond it the kernel kills the helper."""
    memory_bytes: int = 512 << 20
    """Address space for one grammar, beyond what the helper needs itself."""

    @classmethod
    def of(cls, engine: EngineConfig, model: ModelInfo) -> HelperConfig:
        return cls(
            tokenizer=engine.tokenizer or engine.model,
            vocab_size=model.vocab_size,
            eos_token_ids=model.eos_token_ids,
        )


class Verdict(msgspec.Struct, array_like=True, omit_defaults=True):
    """`spec`: the grammar as matchers take it. Or `error`, about the client's text."""

    spec: GrammarSpec | None = None
    error: str | None = None
