"""From the texts of a pooling request, or its token ids, to what the engine takes."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.services.frontend.pooling.schema import MAX_INPUTS, TextRequest
from octavo.services.frontend.prompts import check_ids, off_loop, prompt_list
from octavo.services.frontend.service import Service
from octavo.shared.errors import ContextTooLong, InvalidRequest
from octavo.shared.text.text_ids import TextIds

Pair = tuple[str, str]


async def input_prompts(
    given: str | list[str | int | list[int]], body: TextRequest, service: Service
) -> list[TextIds]:
    """Of every form of `input`. Raises InvalidRequest, ContextTooLong."""
    inputs = prompt_list(given, "input")
    if not 0 < len(inputs) <= MAX_INPUTS:
        raise InvalidRequest(
            f"input must hold 1 to {MAX_INPUTS} texts, got {len(inputs)}.", param="input"
        )
    special, kept = body.add_special_tokens is not False, _num_kept(body, service, pair=False)
    cuts_left = body.truncation_side == "left"

    def encode() -> list[TextIds]:
        return [
            service.tokenizer.encode_text(
                one, add_special_tokens=special, max_tokens=kept, cuts_left=cuts_left
            )
            if isinstance(one, str)
            else TextIds(_cut(one, kept, cuts_left))
            for one in inputs
        ]

    prompts = await off_loop(sum(map(len, inputs)), encode)
    return [_checked(prompt, service, "input") for prompt in prompts]


async def text_prompts(
    texts: Sequence[str], body: TextRequest, service: Service, param: str
) -> list[TextIds]:
    """Each text for itself."""
    return await _encoded([(text, None) for text in texts], body, service, param)


async def pair_prompts(
    pairs: Sequence[Pair], body: TextRequest, service: Service, param: str
) -> list[TextIds]:
    """Two texts in one prompt, as cross-encoders read them."""
    return await _encoded(pairs, body, service, param)


async def _encoded(
    texts: Sequence[tuple[str, str | None]], body: TextRequest, service: Service, param: str
) -> list[TextIds]:
    kept = _num_kept(body, service, pair=any(other is not None for _, other in texts))
    special = body.add_special_tokens is not False

    def encode() -> list[TextIds]:
        return [
            service.tokenizer.encode_text(
                one,
                other,
                add_special_tokens=special,
                max_tokens=kept,
                cuts_left=body.truncation_side == "left",
            )
            for one, other in texts
        ]

    size = sum(len(one) + len(other or "") for one, other in texts)
    prompts = await off_loop(size, encode)
    return [_checked(prompt, service, param) for prompt in prompts]


def _num_kept(body: TextRequest, service: Service, *, pair: bool) -> int | None:
    """truncate_prompt_tokens k keeps k tokens; -1 as many as the model takes."""
    asked, longest = body.truncate_prompt_tokens, service.model.max_model_len
    if asked is None or asked == -1:
        return None if asked is None else longest
    special = body.add_special_tokens is not False
    least = 1 + (service.tokenizer.num_special(pair=pair) if special else 0)
    if not least <= asked <= longest:
        raise InvalidRequest(
            f"truncate_prompt_tokens must be -1 or between {least} and {longest}.",
            param="truncate_prompt_tokens",
        )
    return asked


def _cut(ids: list[int], kept: int | None, cuts_left: bool) -> list[int]:
    if kept is None:
        return ids
    return ids[-kept:] if cuts_left else ids[:kept]


def _checked(prompt: TextIds, service: Service, param: str) -> TextIds:
    length, longest = len(prompt.ids), service.model.max_model_len
    if not length:
        raise InvalidRequest(f"{param}: a text has no token.", param=param)
    if length > longest:
        raise ContextTooLong(
            f"{param}: a text has {length} tokens, {length - longest} more than the {longest} that "
            "this model takes (truncate_prompt_tokens -1 would cut it).",
            param=param,
        )
    check_ids(prompt.ids, service.model.vocab_size, param)
    return prompt
