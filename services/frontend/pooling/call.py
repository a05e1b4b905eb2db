"""One pooling request on its way through the engine, and what all its answers begin with."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from starlette.requests import Request

from octavo.services.frontend.attendance import attended
from octavo.services.frontend.generation import error_of
from octavo.services.frontend.pooling.replies import Encoded, PoolingUsage
from octavo.services.frontend.pooling.schema import EncodingFormat, TextRequest
from octavo.services.frontend.service import Service
from octavo.services.frontend.terms import terms_of
from octavo.shared.errors import InvalidRequest
from octavo.shared.messages import unpack_floats
from octavo.shared.pooling import PoolingInfo, PoolingParams, PoolingTask
from octavo.shared.text.text_ids import TextIds

MADE: dict[PoolingTask, str] = {"embed": "embeddings", "classify": "scores of classes"}


async def pooled(
    service: Service,
    prompts: Sequence[TextIds],
    params: PoolingParams,
    body: TextRequest,
    request: Request,
) -> list[bytes]:
    """float32[d] of each prompt, in order. Raises ClientGone, or what the engine said of one."""
    jobs = [(prompt.ids, params.starting(prompt.second_start)) for prompt in prompts]
    inbox = await service.engine.pool(jobs, terms_of(request, body))
    waiting = len(jobs)
    async with attended(service.engine, inbox, request.receive):
        while waiting:
            for _, piece in await inbox.next():
                if piece.finished is not None and piece.finished.reason == "error":
                    raise error_of(piece.finished)
                waiting -= piece.finished is not None
    return [stream.vector for stream in inbox.streams]


def pooling_of(service: Service, *tasks: PoolingTask) -> PoolingInfo:
    """How the model pools. Raises InvalidRequest where that is for none of these tasks."""
    info = service.model.pooling
    if info is None or info.task not in tasks:
        made = "no vectors" if info is None else MADE[info.task]
        raise InvalidRequest(f"This model makes {made}.", code="unsupported_by_model")
    return info


def usage_of(prompts: Sequence[TextIds]) -> PoolingUsage:
    total = sum(len(prompt.ids) for prompt in prompts)
    return PoolingUsage(prompt_tokens=total, total_tokens=total)


def encoded(vector: bytes, form: EncodingFormat | None) -> Encoded:
    if form == "base64":
        return base64.b64encode(vector).decode()
    return numbers(vector)


def numbers(vector: bytes) -> list[float]:
    values: list[float] = unpack_floats(vector).tolist()
    return values
