"""The live page's own files over a scripted server: what the page does is seen without a model.

`script` says what the server answers; a test changes it while the page is open.
"""

from __future__ import annotations

import base64
import importlib.resources
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from octavo.services.frontend.live.parts import PAGE, PARTS
from octavo.services.frontend.routes.live import HEADERS, TYPES

HOSTILE = "<img src=x onerror=alert(1)>"
TICK = 0.2


def snapshot(**changes: Any) -> dict[str, Any]:
    """Three requests of a server with 64 blocks, and one that waits."""
    cells = [3] * 10 + [4] * 6 + [5] * 4 + [2] * 8 + [1] * 12 + [0] * 24
    row = {"prompt": 100, "limit": 60, "tenant": "", "seconds": 3.2, "cached": 16}
    found = {
        "state": "ready",
        "time": time.time(),
        "running": 3,
        "waiting": 1,
        "slots": 4,
        "context": 2048,
        "pooling": False,
        "model": "tiny",
        "version": "0.1",
        "blocks": {"total": 64, "size": 16, "used": 28, "shared": 8, "cached": 12},
        "map": base64.b64encode(bytes(cells)).decode(),
        "requests": [
            {**row, "number": n, "colour": 3 + n, "computed": 120, "outputs": 20 + n, "blocks": 9}
            for n in range(3)
        ],
        "queue": [{**row, "number": 3, "why": "slot"}],
        "totals": {
            "generation_tokens": int(time.time() * 50) % 10**6,
            **dict.fromkeys(("ttft_count", "ttft_sum", "itl_count", "itl_sum"), 0),
        },
        "tenants": [{"name": "", "running": 3, "waiting": 1, "tokens": 63}],
        "processes": [
            {
                "name": name,
                "pid": 10,
                "state": "ready",
                "restarts": 0,
                "seconds": 75.0,
                "bytes": 2**27,
            }
            for name in ("supervisor", "frontend-0", "scheduler-0", "worker-0")
        ],
    }
    return found | changes


def chunk(text: str, *parts: str, **delta: str) -> dict[str, Any]:
    """An event of an answer: tokens, the first of which is likely."""
    logprobs = [
        {
            "token": part,
            "logprob": -0.01 - 1.2 * n,
            "top_logprobs": [{"token": f"other {k}", "logprob": -1.0 - k} for k in range(5)],
        }
        for n, part in enumerate(parts)
    ]
    delta = {"content": text, **delta} if text else delta
    return {"choices": [{"delta": delta, "logprobs": {"content": logprobs}}]}


@dataclass
class Script:
    """`events`: what a stream of /ui/events brings, over and over; then it ends if `short`.

    `answers`: what each question gets: a status and an error, or the events of an answer, paused
    between by `pace` seconds. `status`: of paths that refuse. `fetched`: (time, path) of every
    request; `asked`: the bodies of questions.
    """

    events: list[dict[str, Any]] = field(default_factory=lambda: [snapshot()])
    short: bool = False
    answers: list[Any] = field(default_factory=list)
    pace: float = 0.0
    models: list[str] = field(default_factory=lambda: ["tiny"])
    keys: dict[str, set[str]] = field(default_factory=dict)
    """Key -> paths it opens; none: all are open."""
    fetched: list[tuple[float, str]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    broken: bool = False
    """/ui/events answers 500."""
    silent: bool = False
    """Its streams stay open, and say nothing."""
    watching: int = 0
    """Streams of it that are read."""
    cut: int = 0
    """Answers that their reader left."""
    over: bool = False

    def count(self, path: str) -> int:
        return sum(one == path for _, one in self.fetched)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Script

    def do_GET(self) -> None:
        self.script.fetched.append((time.monotonic(), self.path))
        name = PAGE if self.path == "/ui" else self.path.removeprefix("/ui/")
        if name in (PAGE, *PARTS):
            self._file(name)
        elif (status := self._refusal()) != 200:
            self._json(status, {"error": {"message": "no"}})
        elif self.path == "/v1/models":
            self._json(200, {"data": [{"id": one} for one in self.script.models]})
        elif self.path == "/ui/events" and self.script.broken:
            self._json(500, {})
        elif self.path == "/ui/events":
            self.script.watching += 1
            self._stream(self._snapshots(), TICK)
            self.script.watching -= 1
        else:
            self._json(404, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.script.fetched.append((time.monotonic(), self.path))
        self.script.asked.append(body)
        answer = self.script.answers.pop(0)
        if isinstance(answer, tuple):
            self._json(answer[0], {"error": answer[1]})
        elif not self._stream(answer, self.script.pace):
            self.script.cut += 1

    def _refusal(self) -> int:
        if not self.script.keys:
            return 200
        opened = self.script.keys.get(self.headers.get("authorization", "").removeprefix("Bearer "))
        return 401 if opened is None else 200 if self.path in opened else 403

    def _snapshots(self) -> Iterator[dict[str, Any]]:
        while True:
            for one in self.script.events:
                yield one | ({"time": time.time()} if "totals" in one else {})
            while self.script.silent and not self.script.over:
                time.sleep(TICK)
            if self.script.short:
                return

    def _file(self, name: str) -> None:
        data = (importlib.resources.files("octavo.services.frontend.live") / name).read_bytes()
        self._head(200, TYPES[name.rpartition(".")[2]], len(data), HEADERS)
        self.wfile.write(data)

    def _json(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self._head(status, "application/json", len(data))
        self.wfile.write(data)

    def _head(
        self, status: int, kind: str, length: int | None, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in (more or {}).items():
            self.send_header(name, value)
        if length is None:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _stream(self, events: Any, pace: float) -> bool:
        """Whether its reader stayed to the end."""
        self._head(200, "text/event-stream", None)
        try:
            for one in events:
                if self.script.over:
                    return True
                self.wfile.write(b"data: " + json.dumps(one).encode() + b"\n\n")
                time.sleep(pace)
        except OSError:
            return False
        return True

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def page_server() -> Iterator[tuple[str, Script]]:
    script = Script()
    handler = type("Scripted", (Handler,), {"script": script})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", script
        script.over = True
        server.shutdown()
        thread.join()
