"""GrammarSpec: what an output must look like, as one small value.

It crosses processes, is a cache key, and is all that is needed, beside the ids said so far, to
build a matcher again after a crash.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from octavo.shared.errors import InvalidRequest

Kind: TypeAlias = Literal["json_schema", "regex", "lark", "ebnf"]
MAX_TEXT_BYTES = 256 << 10
MAX_CHOICES = 4096
BASE_BYTES = 128 << 10
BYTES_PER_BYTE = 160
"""A compiled grammar by its text, measured: 30 kB to 500 kB, plus 30 to 150 bytes each byte."""


class GrammarSpec(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`text` in the language of `kind`; at most MAX_TEXT_BYTES.

    json_schema: a JSON object; its member "x-guidance" is ours and holds the whitespace options.
    ebnf: GBNF, or Lark where it looks like it. A checked spec (`services/grammar`) has no kind
    ebnf any more: it has been translated to lark, which matchers understand.
    """

    kind: Kind
    text: str


def compiled_bytes(spec: GrammarSpec) -> int:
    """What a compiled grammar takes: an estimate, for llguidance does not say."""
    return BASE_BYTES + BYTES_PER_BYTE * len(spec.text)


def make_spec(kind: Kind, text: str, param: str) -> GrammarSpec:
    """Raise InvalidRequest, naming `param`, for a text that is empty or too long."""
    if not text.strip():
        raise InvalidRequest(f"{param} is empty.", param=param)
    size = len(text.encode("utf-8", "replace"))
    if size > MAX_TEXT_BYTES:
        raise InvalidRequest(
            f"{param} has {size} bytes, at most {MAX_TEXT_BYTES} allowed.", param=param
        )
    if "\0" in text:
        raise InvalidRequest(f"{param} holds a NUL character.", param=param)
    return GrammarSpec(kind, text)


def choice_spec(choices: Sequence[str], param: str) -> GrammarSpec:
    """One of a list of texts, exactly."""
    if not 0 < len(choices) <= MAX_CHOICES:
        raise InvalidRequest(f"{param} must hold 1 to {MAX_CHOICES} texts.", param=param)
    if "" in choices:
        raise InvalidRequest(f"{param} holds an empty text.", param=param)
    texts = " | ".join(lark_string(text) for text in dict.fromkeys(choices))
    return make_spec("lark", f"start: {texts}", param)


def lark_string(text: str) -> str:
    """A text as a literal of llguidance's Lark; empty for the empty text."""
    # Its lexer takes DEL for no character of a literal, where JSON does.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f") if text else ""


def decode_object(text: str, param: str) -> dict[str, Any]:
    """A JSON object given as text. Raises InvalidRequest."""
    if len(text) > MAX_TEXT_BYTES:
        raise InvalidRequest(
            f"{param} has {len(text)} characters, at most {MAX_TEXT_BYTES} allowed.", param=param
        )
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise InvalidRequest(f"{param} is not a JSON object.", param=param) from error
