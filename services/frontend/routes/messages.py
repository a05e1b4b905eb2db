"""POST /v1/messages and /v1/messages/count_tokens, of the Anthropic API."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from octavo.services.frontend.anthropic.events import MessageWriter
from octavo.services.frontend.anthropic.from_chat import message_of
from octavo.services.frontend.anthropic.replies import TokenCount
from octavo.services.frontend.anthropic.schema import CountTokensRequest, MessagesRequest
from octavo.services.frontend.anthropic.to_chat import NAMES, chat_request
from octavo.services.frontend.chat_bridge import own_head, renamed
from octavo.services.frontend.edge import json_response, read_json
from octavo.services.frontend.prompts import chat_prompt
from octavo.services.frontend.routes.chat import start_chat
from octavo.services.frontend.service import service_of
from octavo.services.frontend.stream import EventStream
from octavo.services.frontend.tools import tool_use
from octavo.shared.errors import RequestError

_messages = msgspec.json.Decoder(MessagesRequest)
_count = msgspec.json.Decoder(CountTokensRequest)


async def messages(request: Request) -> Response:
    service = service_of(request)
    body = await read_json(request, _messages)
    head = own_head("msg", service.check_model(body.model), service)
    try:
        generation, chat = await start_chat(request, chat_request(body))
    except RequestError as error:
        raise renamed(error, NAMES) from error
    if body.stream:
        return EventStream(generation, MessageWriter(head, chat), None)
    async with generation.attended(request.receive):
        await generation.run()
    return json_response(message_of(head, chat.whole()))


async def count_tokens(request: Request) -> Response:
    service = service_of(request)
    body = await read_json(request, _count)
    service.check_model(body.model)
    chat = chat_request(body)
    tools = tool_use(chat.tools, chat.tool_choice, chat.parallel_tool_calls).for_template()
    prompt = await chat_prompt(chat, service, tools)
    return json_response(TokenCount(input_tokens=len(prompt.ids)))
