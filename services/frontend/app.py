"""The web application: a list of routes, and the layers around them."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.types import ASGIApp

from octavo.services.frontend import access
from octavo.services.frontend.anthropic.replies import (
    AnthropicEvent,
    AnthropicMessage,
    TokenCount,
)
from octavo.services.frontend.anthropic.schema import CountTokensRequest, MessagesRequest
from octavo.services.frontend.auth import KeyRing
from octavo.services.frontend.edge import ERROR_HANDLERS, Edge
from octavo.services.frontend.http_counts import CountingLayer
from octavo.services.frontend.live.feed import LiveFeed
from octavo.services.frontend.opening import OpeningLayer
from octavo.services.frontend.peers import Peers
from octavo.services.frontend.pooling.replies import (
    ClassificationList,
    EmbeddingList,
    PooledList,
    Ranking,
    ScoreList,
)
from octavo.services.frontend.pooling.schema import (
    ClassifyRequest,
    EmbeddingRequest,
    PoolingRequest,
    RerankRequest,
    ScoreRequest,
)
from octavo.services.frontend.replay import Replays
from octavo.services.frontend.replies import (
    ChatChunk,
    ChatCompletion,
    Completion,
    Detokenized,
    Load,
    ModelCard,
    ModelList,
    State,
    Tokens,
    Version,
)
from octavo.services.frontend.responses.replies import ModelResponse, ResponseEvent
from octavo.services.frontend.responses.schema import ResponsesRequest
from octavo.services.frontend.resume import ResumeLayer, resume_by_path
from octavo.services.frontend.routes.chat import chat_completions
from octavo.services.frontend.routes.completions import completions
from octavo.services.frontend.routes.embeddings import classify, embeddings, pooling
from octavo.services.frontend.routes.health import health, live, load, metrics, ready, version
from octavo.services.frontend.routes.live import events as live_events
from octavo.services.frontend.routes.live import page, part
from octavo.services.frontend.routes.messages import count_tokens, messages
from octavo.services.frontend.routes.models import list_models, retrieve_model
from octavo.services.frontend.routes.openapi import openapi
from octavo.services.frontend.routes.responses import responses, stored_response
from octavo.services.frontend.routes.scores import rerank, score
from octavo.services.frontend.routes.tokens import detokenize, tokenize
from octavo.services.frontend.schema import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
)
from octavo.services.frontend.served import EVENTS, HTML, JSON, TEXT, Endpoint, ServedRoute
from octavo.services.frontend.service import Service

POST = ("POST",)


def vectors(path: str, endpoint: Endpoint, summary: str, body: Any, reply: Any) -> ServedRoute:
    """A route of servers that pool."""
    return ServedRoute(path, endpoint, summary, POST, body, reply, makes="vectors")


SERVED = (
    ServedRoute(
        "/v1/chat/completions",
        chat_completions,
        "Answer a conversation",
        POST,
        ChatRequest,
        ChatCompletion,
        ChatChunk,
        makes="texts",
    ),
    ServedRoute(
        "/v1/completions",
        completions,
        "Continue texts",
        POST,
        CompletionRequest,
        Completion,
        Completion,
        makes="texts",
    ),
    ServedRoute(
        "/v1/messages",
        messages,
        "Answer a conversation, as the Anthropic API does",
        POST,
        MessagesRequest,
        AnthropicMessage,
        AnthropicEvent,
        makes="texts",
    ),
    ServedRoute(
        "/v1/messages/count_tokens",
        count_tokens,
        "How long a conversation's prompt is",
        POST,
        CountTokensRequest,
        TokenCount,
        makes="texts",
    ),
    ServedRoute(
        "/v1/responses",
        responses,
        "Answer items, as the Responses API does",
        POST,
        ResponsesRequest,
        ModelResponse,
        ResponseEvent,
        makes="texts",
    ),
    ServedRoute(
        "/v1/responses/{response_id:path}",
        stored_response,
        "Never there: nothing is stored",
        ("GET", "DELETE"),
    ),
    ServedRoute(
        "/v1/streams/{stream_id}",
        resume_by_path,
        "A stream that was resumable, from its beginning or Last-Event-ID on",
        media=EVENTS,
    ),
    vectors("/v1/embeddings", embeddings, "Embed texts", EmbeddingRequest, EmbeddingList),
    vectors("/pooling", pooling, "What the model makes of texts", PoolingRequest, PooledList),
    vectors("/classify", classify, "Classify texts", ClassifyRequest, ClassificationList),
    *(
        vectors(path, score, "How well pairs of texts go together", ScoreRequest, ScoreList)
        for path in ("/score", "/v1/score")
    ),
    *(
        vectors(path, rerank, "Order documents by a query", RerankRequest, Ranking)
        for path in ("/rerank", "/v1/rerank", "/v2/rerank")
    ),
    ServedRoute("/v1/models", list_models, "The models served", response=ModelList),
    ServedRoute("/v1/models/{model:path}", retrieve_model, "One model", response=ModelCard),
    ServedRoute("/tokenize", tokenize, "A text's token ids", POST, TokenizeRequest, Tokens),
    ServedRoute("/detokenize", detokenize, "Ids' text", POST, DetokenizeRequest, Detokenized),
    ServedRoute("/health", health, "Whether requests make progress"),
    ServedRoute(
        "/health/live", live, "Whether this process and its supervisor live", response=State
    ),
    ServedRoute("/health/ready", ready, "As /health, with the state's name", response=State),
    ServedRoute("/ping", health, "The same", ("GET", "POST")),
    ServedRoute("/version", version, "The server's version", response=Version),
    ServedRoute("/load", load, "How many requests are in the engine", response=Load),
    ServedRoute("/metrics", metrics, "Prometheus metrics", media=TEXT),
    ServedRoute("/ui", page, "The live page", media=HTML),
    ServedRoute("/ui/events", live_events, "What it shows, twice a second", media=EVENTS),
    ServedRoute("/ui/{part}", part, "Its style and scripts", media=HTML),
    ServedRoute("/openapi.json", openapi, "This description", media=JSON),
)
"""Every route there is; the router and /openapi.json are both made from it."""
ROUTES = [one.route() for one in SERVED]


def create_app(
    service: Service, peers: Peers | None = None, keys: KeyRing | None = None
) -> ASGIApp:
    app = Starlette(routes=ROUTES, exception_handlers=ERROR_HANDLERS)
    app.router.redirect_slashes = False
    app.state.service, app.state.engine = service, service.engine
    app.state.served = SERVED
    app.state.feed = LiveFeed(service.engine)
    peers = peers or Peers()
    app.state.replays = replays = Replays(peers.index)
    silence = service.config.sse_keep_alive_interval
    app.state.keys = keys = keys or KeyRing.of(service.config)
    resumed = ResumeLayer(app, replays, peers, silence)
    edge = Edge(OpeningLayer(resumed, service.engine), keys)
    access.enable(service.config.access_log)
    return CountingLayer(edge, service.engine.http, [one.path for one in SERVED])
