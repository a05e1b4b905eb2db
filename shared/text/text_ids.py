"""A text, or a pair of them, as a pooling model reads it: with special tokens, whole or cut."""

from __future__ import annotations

from dataclasses import dataclass

import tokenizers


@dataclass(frozen=True)
class TextIds:
    """`second_start`: where the second text of a pair begins, for models that mark it; else 0."""

    ids: list[int]
    second_start: int = 0


def encode_pair(
    backend: tokenizers.Tokenizer,
    one: str,
    other: str | None,
    *,
    add_special_tokens: bool,
    max_tokens: int | None,
    cuts_left: bool,
) -> TextIds:
    """Of at most `max_tokens` ids: the texts lose tokens, the longer one first, and the special
    tokens around them stay."""
    texts = [one] if other is None else [one, other]
    first, *rest = backend.encode_batch_fast(texts, add_special_tokens=False)
    second = rest[0] if rest else None
    if max_tokens is not None:
        special = backend.num_special_tokens_to_add(second is not None) if add_special_tokens else 0
        room = max(max_tokens - special, 0)
        direction = "left" if cuts_left else "right"
        kept = shares(len(first), 0 if second is None else len(second), room)
        first.truncate(kept[0], direction=direction)
        if second is not None:
            second.truncate(kept[1], direction=direction)
    whole = backend.post_process(first, second, add_special_tokens)
    types = whole.type_ids
    return TextIds(whole.ids, types.index(1) if 1 in types else 0)


def shares(first: int, second: int, room: int) -> tuple[int, int]:
    """How many of two texts' tokens stay, when one token of the longer goes at a time."""
    if first + second <= room:
        return first, second
    half = room // 2
    if second <= half:
        return room - second, second
    if first <= room - half:
        return first, room - first
    return room - half, half
