"""POST /v1/embeddings, /pooling and /classify: a vector for each text."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from octavo.services.frontend.edge import json_response, read_json
from octavo.services.frontend.pooling.call import encoded, numbers, pooled, pooling_of, usage_of
from octavo.services.frontend.pooling.prompts import input_prompts
from octavo.services.frontend.pooling.replies import (
    Classification,
    ClassificationList,
    Embedding,
    EmbeddingList,
    PooledData,
    PooledList,
)
from octavo.services.frontend.pooling.schema import (
    ClassifyRequest,
    EmbeddingRequest,
    PoolingRequest,
)
from octavo.services.frontend.schema import refuse_fields
from octavo.services.frontend.service import Head, service_of
from octavo.shared.errors import InvalidRequest
from octavo.shared.pooling import PoolingParams
from octavo.shared.text.text_ids import TextIds

_embedding = msgspec.json.Decoder(EmbeddingRequest)
_pooling = msgspec.json.Decoder(PoolingRequest)
_classify = msgspec.json.Decoder(ClassifyRequest)


async def embeddings(request: Request) -> Response:
    body = await read_json(request, _embedding)
    pooling_of(service_of(request), "embed")
    head, prompts, vectors = await _vectors(request, body, "embd", body.dimensions)
    form = body.encoding_format
    return json_response(
        EmbeddingList(
            id=head.id,
            created=head.created,
            model=head.model,
            data=[
                Embedding(index=i, embedding=encoded(vector, form))
                for i, vector in enumerate(vectors)
            ],
            usage=usage_of(prompts),
        )
    )


async def pooling(request: Request) -> Response:
    """The vectors as they are, of any model."""
    body = await read_json(request, _pooling)
    info = pooling_of(service_of(request), "embed", "classify")
    if body.task not in (None, info.task):
        raise InvalidRequest(f"task: this model's is {info.task}.", param="task")
    head, prompts, vectors = await _vectors(request, body, "pool", body.dimensions)
    form = body.encoding_format
    return json_response(
        PooledList(
            id=head.id,
            created=head.created,
            model=head.model,
            data=[PooledData(index=i, data=encoded(one, form)) for i, one in enumerate(vectors)],
            usage=usage_of(prompts),
        )
    )


async def classify(request: Request) -> Response:
    body = await read_json(request, _classify)
    info = pooling_of(service_of(request), "classify")
    head, prompts, vectors = await _vectors(request, body, "classify", None)
    scores = [numbers(vector) for vector in vectors]
    return json_response(
        ClassificationList(
            id=head.id,
            created=head.created,
            model=head.model,
            data=[_classification(i, probs, info.labels) for i, probs in enumerate(scores)],
            usage=usage_of(prompts),
        )
    )


def _classification(index: int, probs: list[float], labels: list[str]) -> Classification:
    best = max(range(len(probs)), key=probs.__getitem__)
    return Classification(index=index, label=labels[best], probs=probs, num_classes=len(probs))


async def _vectors(
    request: Request,
    body: EmbeddingRequest | ClassifyRequest,
    prefix: str,
    dimensions: int | None,
) -> tuple[Head, list[TextIds], list[bytes]]:
    """Of each input, in order, with what the answer begins with."""
    service = service_of(request)
    head = Head.new(prefix, service.check_model(body.model), service, body.request_id)
    refuse_fields(body)
    params = PoolingParams(dimensions=dimensions, use_activation=body.activates)
    params.verify(pooling_of(service, "embed", "classify"))
    prompts = await input_prompts(body.input, body, service)
    return head, prompts, await pooled(service, prompts, params, body, request)
