"""CPU microseconds of a streamed token inside the frontend, without the kernel's share.

    python bench/front/inside.py [--streams 256] [--steps 100] [--json FILE]

The application runs in this process on an engine that is a script; what it would write to sockets
is counted and dropped. `event`: every token is an event of its own. `coalesced`: MERGED steps have
queued before the streams are told, as under load; the figure is of one token.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from front_engine import FakeEngine, Frontend

from bench import shapes
from bench.results import Record, add_json_option, record, save
from octavo.services.frontend.http_limits import WIRE
from octavo.shared.messages import Outputs, Started, Submit, pack
from octavo.shared.text.tokenizer import Tokenizer

MERGED = 8
FIRST_ID, NUM_IDS = 300, 200
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "hi"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
}


class Wire:
    """A connection that takes everything."""

    class Transport:
        def write(self, data: bytes) -> None:
            pass

        def is_closing(self) -> bool:
            return False

    class Flow:
        write_paused = False

    transport, flow = Transport(), Flow()


async def measure(tokenizer: Tokenizer, path: str, streams: int, steps: int) -> list[float]:
    """Microseconds of (an event, a token of MERGED in one event)."""
    engine = FakeEngine()
    engine.hold = True
    front = Frontend(tokenizer, engine, max_model_len=1 << 20)
    client = front.engine_client
    tasks = [asyncio.create_task(client.run())]
    await front.settle()
    for _ in range(streams):
        tasks.append(asyncio.create_task(_stream(front, path)))
    while len(engine.submits) < streams:
        await asyncio.sleep(0.01)
    ids = b"".join(submit.request_id for submit in engine.submits)
    for first in (True, False):  # streams begin with their first token, and follow from then on
        client.receive(_step(ids, streams, 0, engine.submits if first else []))
        client.flush()
        await asyncio.sleep(0.2)
    messages = [_step(ids, streams, number) for number in range(steps)]
    costs = []
    for merged in (1, MERGED):
        began = time.process_time()
        for number, message in enumerate(messages, start=1):
            client.receive(message)
            if number % merged == 0:
                client.flush()
        costs.append((time.process_time() - began) / (steps * streams) * 1e6)
    for task in tasks:
        task.cancel()
    return costs


async def _stream(front: Frontend, path: str) -> None:
    body = {"model": "tiny", "stream": True, "max_tokens": 1 << 19, **REQUESTS[path]}
    incoming: asyncio.Queue[Any] = asyncio.Queue()
    incoming.put_nowait({"type": "http.request", "body": json.dumps(body).encode()})
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "headers": [], "client": ("", 1), "server": ("", 2), WIRE: Wire(),
    }  # fmt: skip

    async def send(message: Any) -> None:
        pass

    await front.app(scope, incoming.get, send)


def _step(ids: bytes, streams: int, number: int, begun: list[Submit] | None = None) -> Outputs:
    token = FIRST_ID + number % NUM_IDS
    started = [Started(request_id=one.request_id, cached_tokens=0) for one in begun or []]
    return Outputs(request_ids=ids, token_ids=pack([token] * streams), started=started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--steps", type=int, default=96)
    parser.add_argument("--repetitions", type=int, default=5)
    add_json_option(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        shapes.write("tiny", Path(name))
        tokenizer = Tokenizer.load(name)
    found: list[Record] = []
    for path in REQUESTS:
        runs = [
            asyncio.run(measure(tokenizer, path, args.streams, args.steps))
            for _ in range(args.repetitions)
        ]
        kind = "chat" if "chat" in path else "completions"
        found.append(record(f"inside_event_{kind}", None, "us", [one for one, _ in runs]))
        found.append(record(f"inside_coalesced_{kind}", None, "us", [one for _, one in runs]))
    save(args.json, found, {"streams": args.streams, "merged": MERGED})


if __name__ == "__main__":
    main()
