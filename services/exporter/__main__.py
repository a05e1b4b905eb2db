"""Entry of the exporter, the process behind `--metrics-port`: connect, serve, stop.

To the scheduler it is a frontend that submits nothing. It answers to the end: a draining server's
probes fail, and its last counts can still be scraped.
"""

from __future__ import annotations

import asyncio
import socket

import uvloop

from octavo.services.exporter.app import create_app
from octavo.services.frontend import access
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
from octavo.services.frontend.server import Server, create_server
from octavo.shared.awake import AwakeClock
from octavo.shared.process import Child, run_child


def main(child: Child) -> None:
    listener = inherited_listener()
    access.enable(child.config.server.access_log)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(child, listener))


async def _run(child: Child, listener: socket.socket) -> None:
    stop = stop_signal()
    spoke = connect(child.config)
    engine = EngineClient(spoke, awake=AwakeClock())
    follow(child, engine)
    listening = asyncio.create_task(engine.run())
    listening.add_done_callback(lambda task: stop.set())  # what is broken is started again
    duties = [asyncio.create_task(pulse(child)), asyncio.create_task(say_ready(child, engine))]
    await _serve(create_server(create_app(engine)), listener, stop)
    for duty in duties:
        duty.cancel()
    await end(listening)
    spoke.close()


async def _serve(server: Server, listener: socket.socket, stop: asyncio.Event) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    server.should_exit = True
    await serving


if __name__ == "__main__":
    run_child(main)
