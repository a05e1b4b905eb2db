"""What a process and its grammar helper (`services/grammar`) say to each other.

Frames on the helper's stdin and stdout: a length of four bytes, then msgpack. The first frame in
is a `HelperConfig`, answered with a `Verdict` once the vocabulary is loaded; then each frame is a
`GrammarSpec`, answered with a `Verdict`. A helper that dies instead found the grammar too complex.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import msgspec

from octavo.shared.config import EngineConfig, ModelInfo
from octavo.shared.grammar.spec import GrammarSpec

LENGTH = struct.Struct("<I")
MAX_FRAME = 4 << 20


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


def frame(message: Any) -> bytes:
    body = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(body)) + body


def read_frame(read: Callable[[int], bytes]) -> bytes | None:
    """The next frame's body from a blocking, buffered `read`; None at the end."""
    head = read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    body = read(size) if size <= MAX_FRAME else b""
    return body if len(body) == size else None
