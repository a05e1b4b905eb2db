"""Entry of a frontend process: load, connect, serve; ready when the engine is; stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path

import msgspec
import uvloop

from octavo.services.frontend.app import create_app
from octavo.services.frontend.auth import KeyRing
from octavo.services.frontend.engine_client import HEALTHY_SECONDS, EngineClient
from octavo.services.frontend.grammar_compiler import GrammarCompiler
from octavo.services.frontend.metrics_port import metrics_port
from octavo.services.frontend.parsers.registry import Parsers
from octavo.services.frontend.peers import Peers
from octavo.services.frontend.server import Ending, create_server, serve
from octavo.services.frontend.service import Service
from octavo.services.frontend.template_renderer import TemplateRenderer
from octavo.services.frontend.tracing import Tracer
from octavo.shared.awake import AwakeClock
from octavo.shared.config import FRONTEND_SOCKET, ProcessConfig
from octavo.shared.grammar.helper import HelperConfig
from octavo.shared.messages import ToFrontend, ToScheduler
from octavo.shared.process import (
    ALIVE_INTERVAL,
    ENGINE_GONE,
    RETIRE,
    STATE,
    Child,
    Condition,
    run_child,
)
from octavo.shared.text.template_job import TemplateConfig, most_chars
from octavo.shared.text.tokenizer import Tokenizer
from octavo.shared.transport import AsyncSpoke

RESTART_SECONDS = 30.0
"""In which a scheduler that hung is back."""
LOOK_INTERVAL = 0.01
GRAMMARS_AFTER = 5.0
"""Seconds that the first requests have the processors for themselves."""


def main(child: Child) -> None:
    listener, metrics = _inherited_listeners()
    config = child.config.server
    path = Path(config.engine.tokenizer or config.engine.model)
    tokenizer = Tokenizer.load(path, config.chat_template)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(child, listener, metrics, tokenizer))


async def _run(
    child: Child, listener: socket.socket, metrics: socket.socket | None, tokenizer: Tokenizer
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    retire = asyncio.Event()
    loop.add_signal_handler(RETIRE, retire.set)
    spoke = _connect(child.config)
    dead_seconds = child.config.server.hang_timeout + RESTART_SECONDS
    engine = EngineClient(spoke, dead_seconds=dead_seconds, awake=AwakeClock())
    engine.tracer = _tracer(child.config)
    _follow(child, engine)
    # What is in flight cannot finish any more: it ends at once, with an error.
    loop.add_signal_handler(ENGINE_GONE, engine.close, "The engine has stopped.")
    # A broken line to the scheduler must not go unnoticed: it ends the server.
    listening = asyncio.create_task(engine.run())
    listening.add_done_callback(lambda task: stop.set())
    pulse = asyncio.create_task(_pulse(child))
    templates = _templates(child.config, tokenizer)
    if child.config.model.pooling is None:
        await templates.start()
    server, model = child.config.server, child.config.model
    grammars = GrammarCompiler.of(HelperConfig.of(server.engine, model))
    parsers = Parsers.of(
        server.tool_call_parser, server.reasoning_parser, tokenizer.chat_template or ""
    )
    peers = Peers(child.config.path if server.frontends > 1 else None, child.config.index)
    keys = KeyRing.of(server)
    watching = asyncio.create_task(keys.watch())
    service = Service(server, model, tokenizer, engine, grammars, templates, parsers)
    uvicorn_server = create_server(create_app(service, peers, keys))
    sockets = [listener, *peers.listeners()]
    opening = asyncio.create_task(_open(child, engine, grammars))
    ending = Ending(stop, retire, server.shutdown_timeout)
    async with metrics_port(service, metrics) as beside:
        await serve(uvicorn_server, sockets, engine, ending, beside)
    opening.cancel()
    watching.cancel()
    await grammars.close()
    await templates.close()
    await _end(listening)
    pulse.cancel()
    spoke.close()
    if engine.tracer is not None:
        engine.tracer.close()


def _tracer(config: ProcessConfig) -> Tracer | None:
    server = config.server
    names = [*server.served_model_name, server.engine.model]
    endpoint = server.otlp_traces_endpoint
    return Tracer.to(endpoint, names[0], config.otlp_headers) if endpoint else None


def _templates(config: ProcessConfig, tokenizer: Tokenizer) -> TemplateRenderer:
    return TemplateRenderer(
        TemplateConfig(
            template=tokenizer.chat_template,
            special_tokens=tokenizer.special_tokens,
            max_chars=most_chars(config.model.max_model_len),
        )
    )


async def _pulse(child: Child) -> None:
    """While the event loop turns."""
    while True:
        child.alive()
        await asyncio.sleep(ALIVE_INTERVAL)


def _connect(config: ProcessConfig) -> AsyncSpoke[ToScheduler, ToFrontend]:
    return AsyncSpoke(config.path, FRONTEND_SOCKET, config.peer.encode(), ToFrontend)


def _follow(child: Child, engine: EngineClient) -> None:
    """Keep `engine.told` as the supervisor tells it; until then the server starts."""
    engine.told = Condition("starting")
    loop = asyncio.get_running_loop()

    def note(line: bytes) -> None:
        engine.told = msgspec.json.decode(line.removeprefix(STATE), type=Condition)

    def hear(line: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(note, line)

    child.hear(hear)


async def _open(child: Child, engine: EngineClient, grammars: GrammarCompiler) -> None:
    """Say ready once requests are taken, and the engine has been seen: the first must not fail.

    Then have the grammar helpers up before they are asked for.
    """
    while not engine.open:
        await asyncio.sleep(LOOK_INTERVAL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HEALTHY_SECONDS):
            while not (engine.state == "ready" or engine.told.state == "degraded"):
                await asyncio.sleep(LOOK_INTERVAL)
    child.ready()
    if child.config.model.pooling is None:
        await asyncio.sleep(GRAMMARS_AFTER)
        await grammars.start()


async def _end(listening: asyncio.Task[None]) -> None:
    """Stop listening to the engine; an error that ended it is raised here."""
    listening.cancel()
    await asyncio.wait({listening})
    if not listening.cancelled():
        listening.result()


def _inherited_listeners() -> tuple[socket.socket, socket.socket | None]:
    """The bound sockets that the supervisor handed down, the public one and that of
    `--metrics-port`; listening starts with `serve`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--metrics-fd", type=int)
    args, _ = parser.parse_known_args()
    metrics = None if args.metrics_fd is None else socket.socket(fileno=args.metrics_fd)
    listeners = socket.socket(fileno=args.listen_fd), metrics
    for listener in filter(None, listeners):
        os.set_inheritable(listener.fileno(), False)  # helpers have nothing to accept
    return listeners


if __name__ == "__main__":
    run_child(main)
