"""GET /v1/models and /v1/models/{model}."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from octavo.services.frontend.edge import json_response
from octavo.services.frontend.replies import ModelCard, ModelList
from octavo.services.frontend.service import Service, service_of


async def list_models(request: Request) -> Response:
    service = service_of(request)
    return json_response(ModelList(data=[_card(name, service) for name in service.model_names]))


async def retrieve_model(request: Request) -> Response:
    service = service_of(request)
    return json_response(_card(service.check_model(request.path_params["model"]), service))


def _card(name: str, service: Service) -> ModelCard:
    return ModelCard(
        id=name,
        created=service.started,
        root=service.config.engine.model,
        max_model_len=service.model.max_model_len,
    )
