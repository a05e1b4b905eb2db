"""POST /v1/responses; there are no stored ones to get."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from octavo.services.frontend.chat_bridge import own_head, renamed
from octavo.services.frontend.edge import json_response, read_json
from octavo.services.frontend.responses.schema import ResponsesRequest
from octavo.services.frontend.responses.to_chat import NAMES, chat_request
from octavo.services.frontend.responses.writer import ResponseWriter
from octavo.services.frontend.routes.chat import start_chat
from octavo.services.frontend.service import service_of
from octavo.services.frontend.stream import EventStream
from octavo.shared.errors import NotFound, RequestError

_decoder = msgspec.json.Decoder(ResponsesRequest)


async def responses(request: Request) -> Response:
    service = service_of(request)
    body = await read_json(request, _decoder)
    head = own_head("resp", service.check_model(body.model), service)
    try:
        generation, chat = await start_chat(request, chat_request(body))
    except RequestError as error:
        raise renamed(error, NAMES) from error
    writer = ResponseWriter(head, body, chat)
    if body.stream:
        return EventStream(generation, writer, None)
    async with generation.attended(request.receive):
        await generation.run()
    return json_response(writer.whole())


async def stored_response(request: Request) -> Response:
    raise NotFound(
        "This server stores no responses: what POST /v1/responses answered, or streamed, is all "
        "there is.",
        param="response_id",
    )
