"""A frontend without an engine: the application in-process, and a scripted scheduler.

`FakeEngine` is the in-memory twin of an AsyncSpoke: it reads what the frontend sends and answers
as the scheduler would, one message a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import httpx
import msgspec

from octavo.services.frontend.app import create_app
from octavo.services.frontend.auth import KeyRing
from octavo.services.frontend.engine_client import EngineClient
from octavo.services.frontend.grammar_compiler import GrammarCompiler
from octavo.services.frontend.http_limits import WIRE
from octavo.services.frontend.parsers.registry import Parsers
from octavo.services.frontend.service import Service
from octavo.services.frontend.template_renderer import TemplateRenderer
from octavo.services.templates.rendering import own_template, rendered_of
from octavo.shared.config import EngineConfig, ModelInfo, ServerConfig
from octavo.shared.errors import InvalidRequest
from octavo.shared.grammar.compiling import GrammarError, compile_grammar, translate, vocabulary
from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.messages import (
    Abort,
    EngineStats,
    Finished,
    Hello,
    Logprobs,
    Outputs,
    PageQuery,
    PageText,
    PooledOutput,
    PromptLogprobsOutput,
    Started,
    Submit,
    ToFrontend,
    ToScheduler,
    pack,
    pack_floats,
    unpack,
)
from octavo.shared.text.template_job import TemplateConfig, TemplateJob, most_chars
from octavo.shared.text.tokenizer import Tokenizer

EOS_ID = 2
CACHED_TOKENS = 3
MAX_MODEL_LEN = 128


class FakeEngine:
    """Answers every Submit with `reply` (ids; an EOS ends it) unless it is told to `hold`."""

    def __init__(self, reply: Sequence[int] = ()) -> None:
        self.reply = list(reply)
        self.reply_to: Callable[[Submit], Sequence[int]] | None = None
        self.vector_of: Callable[[Sequence[int], Submit], Sequence[float]] | None = None
        self.hold = False
        self.answers_metrics = True
        self.error: tuple[str, str | None] | None = None
        self.pages: list[str] = []
        """That were asked for."""
        self.retry_after = 1
        self.hello = 0
        self.submits: list[Submit] = []
        self.aborted: list[bytes] = []
        self.reasons: list[str] = []
        self.inbox: asyncio.Queue[ToFrontend] = asyncio.Queue()

    async def receive_all(self) -> list[ToFrontend]:
        message = await self.inbox.get()
        await asyncio.sleep(0)
        return [message]

    async def send(self, message: ToScheduler) -> None:
        match message:
            case Hello():
                self.hello += 1
                self.beat()
            case Submit():
                self.submits.append(message)
                if not self.hold:
                    self.answer(message)
            case Abort():
                self.aborted += message.request_ids
                self.reasons.append(message.reason)
            case PageQuery():
                self.pages.append(message.page)
                texts = {"metrics": b"vllm:num_requests_running 0\n", "snapshot": b'{"totals":{}}'}
                if self.answers_metrics:
                    text = texts[message.page]
                    self.inbox.put_nowait(PageText(query_id=message.query_id, text=text))

    def beat(self, epoch: int = 0, stalled: bool = False) -> None:
        stats = EngineStats(
            step=1,
            running=2,
            waiting=1,
            blocks_used=0,
            blocks_total=8,
            epoch=epoch,
            stalled=stalled,
        )
        self.inbox.put_nowait(stats)

    def answer(self, submit: Submit) -> None:
        """Play the whole reply, one Outputs a token."""
        if self.error is not None:
            self.fail(submit)
            return
        if submit.pooling is not None:
            self.pool(submit)
            return
        ids = list(self.reply_to(submit) if self.reply_to else self.reply)
        limit = submit.sampling.max_tokens or len(ids)
        if EOS_ID not in ids[:limit] and len(ids) < limit:
            ids.append(EOS_ID)
        ids = ids[:limit]
        for position, token_id in enumerate(ids):
            last = position == len(ids) - 1
            self.token(submit, token_id, first=position == 0, last=last)

    def pool(self, submit: Submit) -> None:
        """A request's vector: `fake_vector`, or what `vector_of` says."""
        ids = unpack(submit.prompt_ids).tolist()
        end = Finished(request_id=submit.request_id, reason="stop")
        asked = submit.pooling.dimensions if submit.pooling else None
        vector = self.vector_of(ids, submit) if self.vector_of else fake_vector(ids, asked or 8)
        pooled = PooledOutput(request_id=submit.request_id, vector=pack_floats(vector))
        self.inbox.put_nowait(Outputs(pooled=[pooled], finished=[end]))

    def fail(self, submit: Submit) -> None:
        code, message = self.error or ("internal_error", None)
        finished = Finished(
            request_id=submit.request_id,
            reason="error",
            error=code,
            message=message,
            retry_after=self.retry_after,
        )
        self.inbox.put_nowait(Outputs(finished=[finished]))

    def token(self, submit: Submit, token_id: int, first: bool = False, last: bool = False) -> None:
        """One token for one request, with what belongs to it."""
        sampling, request_id = submit.sampling, submit.request_id
        stop_id = token_id if token_id in sampling.stop_ids else None
        reason = "length" if stop_id is None else "stop"
        k = sampling.logprobs
        ends = Finished(request_id=request_id, reason=reason, stop_id=stop_id)  # type: ignore[arg-type]
        self.inbox.put_nowait(
            Outputs(
                request_ids=request_id,
                token_ids=pack([token_id]),
                logprob_rows=b"" if k is None else pack([0]),
                logprobs=None if k is None else fake_logprobs([token_id], k),
                prompt_logprobs=_prompt_logprobs(submit) if first else [],
                started=[Started(request_id=request_id, cached_tokens=CACHED_TOKENS)]
                if first
                else [],
                finished=[ends] if last else [],
            )
        )


def fake_vector(ids: Sequence[int], size: int = 8) -> list[float]:
    """Numbers that tell the ids apart."""
    return [float(sum(ids) % (13 + i)) + i for i in range(size)]


def fake_logprobs(token_ids: Sequence[int], k: int) -> Logprobs:
    """Width k + 2 (someone else in the batch asked for more): token t has log-probability -t/8."""
    width = k + 2
    rows = [[t, *range(10, 10 + width - 1)] for t in token_ids]
    values = [[-t / 8 for t in row] for row in rows]
    return Logprobs(
        width=width,
        token_ids=pack([t for row in rows for t in row]),
        logprobs=pack_floats([v for row in values for v in row]),
        ranks=pack([5] * len(token_ids)),
    )


def _prompt_logprobs(submit: Submit) -> list[PromptLogprobsOutput]:
    """In two pieces, as chunked prefill brings them."""
    k = submit.sampling.prompt_logprobs
    if k is None:
        return []
    ids = unpack(submit.prompt_ids).tolist()
    cut = len(ids) // 2 + 1
    parts = [(1, ids[1:cut]), (cut, ids[cut:])]
    return [
        PromptLogprobsOutput(
            request_id=submit.request_id, start=start, values=fake_logprobs(part, k)
        )
        for start, part in parts
        if part
    ]


class InlineGrammars(GrammarCompiler):
    """Compiles in this process: the helper has tests of its own."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__([])
        self._tokenizer = tokenizer

    async def check(self, spec: GrammarSpec, param: str, tenant: str = "") -> GrammarSpec:
        try:
            checked = translate(spec)
            compile_grammar(
                checked, vocabulary(self._tokenizer, self._tokenizer.vocab_size, [EOS_ID])
            )
        except GrammarError as error:
            raise InvalidRequest(f"{param} cannot be used: {error}.", param=param) from error
        return checked


class InlineTemplates(TemplateRenderer):
    """Renders in this process: the helper has tests of its own."""

    def __init__(self, tokenizer: Tokenizer, max_model_len: int) -> None:
        self._config = TemplateConfig(
            template=tokenizer.chat_template,
            special_tokens=tokenizer.special_tokens,
            max_chars=most_chars(max_model_len),
        )
        self._own = own_template(self._config)

    async def render(self, job: TemplateJob) -> str:
        rendered = rendered_of(job, self._own, self._config, len(msgspec.json.encode(job)))
        if rendered.error is not None:
            raise InvalidRequest(rendered.error, param=rendered.param)
        return rendered.text


class Frontend:
    """The application with its engine: plain HTTP through `client`, raw ASGI through `open`."""

    def __init__(self, tokenizer: Tokenizer, engine: FakeEngine, **config: Any) -> None:
        defaults = config.pop("sampling_defaults", {})
        max_model_len = config.pop("max_model_len", MAX_MODEL_LEN)
        pooling = config.pop("pooling", None)
        self.now = 0.0
        self.engine = engine
        self.tokenizer = tokenizer
        self.model = ModelInfo(
            architecture="LlamaForCausalLM",
            vocab_size=tokenizer.vocab_size,
            max_model_len=max_model_len,
            eos_token_ids=[EOS_ID],
            sampling_defaults=defaults,
            pooling=pooling,
        )
        self.config = ServerConfig(
            engine=EngineConfig(model="/models/tiny"), served_model_name=["tiny", "alias"], **config
        )
        self.engine_client = EngineClient(engine, clock=lambda: self.now)
        self.grammars = InlineGrammars(tokenizer)
        parsers = Parsers.of(
            self.config.tool_call_parser,
            self.config.reasoning_parser,
            tokenizer.chat_template or "",
        )
        self.templates = InlineTemplates(tokenizer, max_model_len)
        service = Service(
            self.config,
            self.model,
            tokenizer,
            self.engine_client,
            self.grammars,
            self.templates,
            parsers,
        )
        self.keys = KeyRing.of(self.config)
        self.app = create_app(service, keys=self.keys)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://octavo")

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.client.post(path, json=body)

    async def events(self, path: str, **body: Any) -> list[Any]:
        """The `data:` events of a streamed response, decoded; "[DONE]" as it is."""
        response = await self.post(path, stream=True, **body)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        return parse_events(response.text)

    async def settle(self) -> None:
        """Let everything that is queued be handled."""
        for _ in range(50):
            await asyncio.sleep(0)


def parse_events(text: str) -> list[Any]:
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    assert all(block.startswith("data: ") for block in blocks), text
    data = [block.removeprefix("data: ") for block in blocks]
    return [one if one == "[DONE]" else json.loads(one) for one in data]


@contextlib.asynccontextmanager
async def frontend(
    tokenizer: Tokenizer, reply: str = "Hello world", **config: Any
) -> AsyncIterator[Frontend]:
    """A running frontend whose engine answers `reply`."""
    engine = FakeEngine(tokenizer.encode(reply, add_special_tokens=False))
    front = Frontend(tokenizer, engine, **config)
    running = asyncio.create_task(front.engine_client.run())
    await front.settle()
    try:
        yield front
    finally:
        running.cancel()
        await front.client.aclose()


def run(
    tokenizer: Tokenizer,
    test: Callable[[Frontend], Awaitable[None]],
    hold: bool = False,
    **config: Any,
) -> None:
    """`test` on a running frontend, whose engine answers by itself unless it is to `hold`."""

    async def main() -> None:
        async with frontend(tokenizer, **config) as front:
            front.engine.hold = hold
            await test(front)

    asyncio.run(main())


class RawCall:
    """One ASGI call by hand: the test decides when the body arrives and when the client leaves."""

    def __init__(
        self, app: Any, path: str, body: bytes, headers: Sequence[Any] = (), wire: Any = None
    ) -> None:
        self.sent: list[dict[str, Any]] = []
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": list(headers),
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            WIRE: wire,
        }
        self.task = asyncio.create_task(app(scope, self._incoming.get, self._send))

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    def disconnect(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)
