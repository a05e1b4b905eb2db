"""From a request's fields to SamplingParams and a length limit."""

from __future__ import annotations

from octavo.services.frontend.beam_search import check_beams
from octavo.services.frontend.schema import (
    ChatRequest,
    CompletionRequest,
    GenerationRequest,
)
from octavo.shared.config import ModelInfo
from octavo.shared.errors import ContextTooLong, InvalidRequest
from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.sampling import SamplingParams
from octavo.shared.text.bad_words import with_bad_words
from octavo.shared.text.tokenizer import Tokenizer

_NUMBERS = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}
"""Fields that generation_config.json may set, and their value where it does not."""


def sampling_params(
    request: GenerationRequest,
    model: ModelInfo,
    tokenizer: Tokenizer,
    *,
    max_tokens: int | None,
    logprobs: int | None,
    prompt_logprobs: int | None,
    grammar: GrammarSpec | None,
) -> SamplingParams:
    """Verified parameters; `max_tokens` has been through `output_limit`."""
    numbers = {name: _number(request, model, name) for name in _NUMBERS}
    stop = [request.stop] if isinstance(request.stop, str) else request.stop
    params = SamplingParams(
        temperature=numbers["temperature"],
        top_p=numbers["top_p"],
        top_k=int(numbers["top_k"]),
        min_p=numbers["min_p"],
        repetition_penalty=numbers["repetition_penalty"],
        n=1 if request.n is None else request.n,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        seed=request.seed,
        stop=stop or [],
        stop_token_ids=request.stop_token_ids or [],
        include_stop_str_in_output=bool(request.include_stop_str_in_output),
        ignore_eos=bool(request.ignore_eos),
        max_tokens=max_tokens,
        min_tokens=request.min_tokens or 0,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        grammar=grammar,
        logit_bias=request.logit_bias or {},
        allowed_token_ids=request.allowed_token_ids,
        bad_words=request.bad_words or [],
        repetition_detection=request.repetition_detection,
        skip_special_tokens=request.skip_special_tokens is not False,
        eos_token_ids=model.eos_token_ids,
    )
    params.verify(model.vocab_size)
    return with_bad_words(params, model.vocab_size, tokenizer)


def _number(request: GenerationRequest, model: ModelInfo, name: str) -> float:
    asked: float | None = getattr(request, name)
    if asked is not None:
        return asked
    return model.sampling_defaults.get(name, _NUMBERS[name])


def check_common(request: GenerationRequest) -> None:
    """What can be told before the prompt is known. Raises InvalidRequest."""
    request.refuse()
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("stream_options needs stream.", param="stream_options")
    if request.prompt_logprobs is not None and request.stream:
        raise InvalidRequest("prompt_logprobs cannot be streamed.", param="prompt_logprobs")
    if request.use_beam_search:
        check_beams(request)


def chat_logprobs(request: ChatRequest) -> int | None:
    """How many alternatives a chat request wants; None: no logprobs at all."""
    top = request.top_logprobs or 0
    if top and not request.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true.", param="top_logprobs")
    return top if request.logprobs else None


def completion_logprobs(request: CompletionRequest) -> tuple[int | None, int | None]:
    """(logprobs, prompt_logprobs): `echo` with logprobs asks for the prompt's too."""
    if request.echo and request.logprobs is not None:
        return request.logprobs, max(request.logprobs, request.prompt_logprobs or 0)
    return request.logprobs, request.prompt_logprobs


def output_limit(asked: int | None, prompt_len: int, model: ModelInfo, param: str) -> int:
    """max_tokens for this prompt: as asked, or up to the model's default and the context's end.

    Raises ContextTooLong when the prompt leaves no room, InvalidRequest when what was asked for
    does not fit.
    """
    limit = model.max_model_len
    if prompt_len >= limit:
        raise ContextTooLong(
            f"The prompt has {prompt_len} tokens, but the context of this model holds {limit} "
            f"and the output needs at least one: {prompt_len - limit + 1} too many.",
            param="prompt" if param == "prompt" else "messages",
        )
    room = limit - prompt_len
    if asked is None:
        return min(room, int(model.sampling_defaults.get("max_new_tokens", room)))
    if asked > room:
        raise ContextTooLong(
            f"max_tokens is {asked} and the prompt has {prompt_len} tokens: {asked + prompt_len} "
            f"together, {asked - room} more than the {limit} of this model's context.",
            param="max_tokens",
        )
    return asked
