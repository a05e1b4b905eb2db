"""Service: what every route needs, in one value handed to the application."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from starlette.requests import Request

from octavo.services.frontend.access import note_id
from octavo.services.frontend.engine_client import EngineClient
from octavo.services.frontend.grammar_compiler import GrammarCompiler
from octavo.services.frontend.parsers.registry import Parsers
from octavo.services.frontend.template_renderer import TemplateRenderer
from octavo.shared.config import ModelInfo, ServerConfig
from octavo.shared.errors import InvalidRequest, ModelNotFound
from octavo.shared.text.tokenizer import Tokenizer
from octavo.shared.version import VERSION

Product = Literal["texts", "vectors"]
_OTHER: dict[Product, str] = {
    "texts": "This server's model makes vectors of texts (/v1/embeddings, /classify, /score and "
    "/rerank, as it can); it generates no text.",
    "vectors": "This server's model generates texts. For vectors, its operator has to serve it "
    "with --runner pooling.",
}


@dataclass(frozen=True)
class Service:
    config: ServerConfig
    model: ModelInfo
    tokenizer: Tokenizer
    engine: EngineClient
    grammars: GrammarCompiler
    templates: TemplateRenderer
    parsers: Parsers
    started: int = field(default_factory=lambda: int(time.time()))

    @property
    def model_names(self) -> list[str]:
        return self.config.served_model_name or [self.config.engine.model]

    def check_product(self, makes: Product) -> None:
        """Raise InvalidRequest where the model is for something else."""
        if makes == ("texts" if self.model.pooling is None else "vectors"):
            return
        raise InvalidRequest(_OTHER[makes], code="unsupported_by_model")

    def check_model(self, name: str | None) -> str:
        """The name to echo. Raises ModelNotFound; a request without a name gets the first."""
        if name and name not in self.model_names:
            raise ModelNotFound(
                f"The model `{name[:200]}` is not served here; this server serves "
                f"{', '.join(self.model_names)}.",
                param="model",
            )
        return name or self.model_names[0]


@dataclass(frozen=True)
class Head:
    """The fields that open every response of one request."""

    id: str
    created: int
    model: str
    system_fingerprint: str

    @classmethod
    def new(cls, prefix: str, model: str, service: Service, request_id: str | None = None) -> Head:
        """`request_id`: the client's own name for the request, known to be harmless."""
        named = f"{prefix}-{request_id or secrets.token_hex(16)}"
        note_id(named)
        return cls(
            id=named,
            created=int(time.time()),
            model=model,
            system_fingerprint=fingerprint(service.config),
        )


def fingerprint(config: ServerConfig) -> str:
    """Names the version and the engine's settings: the same one, the same answers to a seed."""
    digest = hashlib.sha256(msgspec.json.encode(config.engine)).hexdigest()
    return f"octavo-{VERSION}-{digest[:8]}"


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
