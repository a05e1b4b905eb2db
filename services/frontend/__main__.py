"""Entry of a frontend process: load, connect, serve; ready when the engine is; stop."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import uvloop

from octavo.services.frontend.app import create_app
from octavo.services.frontend.auth import KeyRing
from octavo.services.frontend.duties import (
    connect,
    end,
    follow,
    inherited_listener,
    pulse,
    say_ready,
    stop_signal,
)
from octavo.services.frontend.engine_client import EngineClient
from octavo.services.frontend.grammar_compiler import GrammarCompiler
from octavo.services.frontend.parsers.registry import Parsers
from octavo.services.frontend.peers import Peers
from octavo.services.frontend.server import Ending, create_server, serve
from octavo.services.frontend.service import Service
from octavo.services.frontend.template_renderer import TemplateRenderer
from octavo.services.frontend.tracing import Tracer
from octavo.shared.awake import AwakeClock
from octavo.shared.config import ProcessConfig
from octavo.shared.grammar.helper import HelperConfig
from octavo.shared.process import ENGINE_GONE, RETIRE, Child, run_child
from octavo.shared.text.template_job import TemplateConfig, most_chars
from octavo.shared.text.tokenizer import Tokenizer

RESTART_SECONDS = 30.0
"""In which a scheduler that hung is back."""
GRAMMARS_AFTER = 5.0
"""Seconds that the first requests have the processors for themselves."""


def main(child: Child) -> None:
    listener = inherited_listener()
    config = child.config.server
    path = Path(config.engine.tokenizer or config.engine.model)
    tokenizer = Tokenizer.load(path, config.chat_template)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(child, listener, tokenizer))


async def _run(child: Child, listener: socket.socket, tokenizer: Tokenizer) -> None:
    stop = stop_signal()
    loop = asyncio.get_running_loop()
    retire = asyncio.Event()
    loop.add_signal_handler(RETIRE, retire.set)
    spoke = connect(child.config)
    dead_seconds = child.config.server.hang_timeout + RESTART_SECONDS
    engine = EngineClient(spoke, dead_seconds=dead_seconds, awake=AwakeClock())
    engine.tracer = _tracer(child.config)
    follow(child, engine)
    # What is in flight cannot finish any more: it ends at once, with an error.
    loop.add_signal_handler(ENGINE_GONE, engine.close, "The engine has stopped.")
    # A broken line to the scheduler must not go unnoticed: it ends the server.
    listening = asyncio.create_task(engine.run())
    listening.add_done_callback(lambda task: stop.set())
    beating = asyncio.create_task(pulse(child))
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
    await serve(uvicorn_server, sockets, engine, ending)
    opening.cancel()
    watching.cancel()
    await grammars.close()
    await templates.close()
    await end(listening)
    beating.cancel()
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


async def _open(child: Child, engine: EngineClient, grammars: GrammarCompiler) -> None:
    """Say ready; then have the grammar helpers up before they are asked for."""
    await say_ready(child, engine)
    if child.config.model.pooling is None:
        await asyncio.sleep(GRAMMARS_AFTER)
        await grammars.start()


if __name__ == "__main__":
    run_child(main)
