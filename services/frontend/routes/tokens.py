"""POST /tokenize and /detokenize."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from octavo.services.frontend.edge import json_response, read_json
from octavo.services.frontend.prompts import chat_ids, check_ids, off_loop
from octavo.services.frontend.replies import Detokenized, Tokens
from octavo.services.frontend.schema import DetokenizeRequest, TokenizeRequest, refuse_fields
from octavo.services.frontend.service import Service, service_of
from octavo.shared.errors import InvalidRequest

_tokenize = msgspec.json.Decoder(TokenizeRequest)
_detokenize = msgspec.json.Decoder(DetokenizeRequest)


async def tokenize(request: Request) -> Response:
    service = service_of(request)
    body = await read_json(request, _tokenize)
    refuse_fields(body)
    service.check_model(body.model)
    ids = await _ids(body, service)
    strings = [service.tokenizer.id_to_token(i) for i in ids] if body.return_token_strs else None
    return json_response(
        Tokens(
            count=len(ids),
            max_model_len=service.model.max_model_len,
            tokens=ids,
            token_strs=strings,
        )
    )


async def _ids(body: TokenizeRequest, service: Service) -> list[int]:
    if (body.prompt is None) == (body.messages is None):
        raise InvalidRequest("Give either prompt or messages.", param="prompt")
    if body.prompt is None:
        return await chat_ids(body, service, {"tools": body.tools})
    text, special = body.prompt, body.add_special_tokens is not False
    return await off_loop(len(text), lambda: service.tokenizer.encode(text, special))


async def detokenize(request: Request) -> Response:
    service = service_of(request)
    body = await read_json(request, _detokenize)
    service.check_model(body.model)
    check_ids(body.tokens, service.model.vocab_size, "tokens")
    text = await off_loop(
        len(body.tokens), lambda: service.tokenizer.decode(body.tokens, skip_special_tokens=False)
    )
    return json_response(Detokenized(prompt=text))
