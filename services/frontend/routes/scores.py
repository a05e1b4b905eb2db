"""POST /score and /rerank, each under the paths that vLLM, Jina and Cohere have."""

from __future__ import annotations

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from octavo.services.frontend.edge import json_response, read_json
from octavo.services.frontend.pooling.replies import (
    Ranked,
    RankedDocument,
    Ranking,
    Score,
    ScoreList,
)
from octavo.services.frontend.pooling.schema import RerankRequest, ScoreRequest
from octavo.services.frontend.pooling.scores import Pairs, paired, scores_of
from octavo.services.frontend.schema import refuse_fields
from octavo.services.frontend.service import Head, service_of
from octavo.shared.errors import InvalidRequest

_score = msgspec.json.Decoder(ScoreRequest)
_rerank = msgspec.json.Decoder(RerankRequest)
FORMS = (("text_1", "text_2"), ("queries", "documents"))


async def score(request: Request) -> Response:
    service = service_of(request)
    body = await read_json(request, _score)
    refuse_fields(body)
    head = Head.new("score", service.check_model(body.model), service, body.request_id)
    scores, usage = await scores_of(service, _pairs(body), body, request)
    return json_response(
        ScoreList(
            id=head.id,
            created=head.created,
            model=head.model,
            data=[Score(index=i, score=one) for i, one in enumerate(scores)],
            usage=usage,
        )
    )


def _pairs(body: ScoreRequest) -> Pairs:
    given = [form for form in FORMS if any(getattr(body, name) is not None for name in form)]
    if len(given) > 1:
        raise InvalidRequest("Give text_1 and text_2, or queries and documents.", param="queries")
    names = given[0] if given else FORMS[0]
    return paired(_texts(body, names[0]), _texts(body, names[1]), names)


def _texts(body: ScoreRequest, name: str) -> list[str]:
    texts: str | list[str] | None = getattr(body, name)
    if texts is None:
        raise InvalidRequest(f"{name} is missing.", param=name)
    return [texts] if isinstance(texts, str) else texts


async def rerank(request: Request) -> Response:
    service = service_of(request)
    body = await read_json(request, _rerank)
    refuse_fields(body)
    head = Head.new("rerank", service.check_model(body.model), service, body.request_id)
    texts, shown = body.texts, body.return_documents is not False
    pairs = paired([body.query], texts, ("query", "documents"))
    scores, usage = await scores_of(service, pairs, body, request)
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    best = order[: body.top_n or len(order)]
    return json_response(
        Ranking(
            id=head.id,
            model=head.model,
            usage=usage,
            results=[_ranked(index, texts[index], scores[index], shown) for index in best],
        )
    )


def _ranked(index: int, text: str, relevance: float, shown: bool) -> Ranked:
    return Ranked(
        index=index,
        document=RankedDocument(text=text) if shown else UNSET,
        relevance_score=relevance,
    )
