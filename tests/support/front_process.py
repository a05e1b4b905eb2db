"""A real frontend or exporter on a real port, with a scripted scheduler at the other end."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from octavo.shared.config import (
    FRONTEND_SOCKET,
    EngineConfig,
    ModelInfo,
    ProcessConfig,
    ServerConfig,
)
from octavo.shared.messages import (
    Abort,
    EngineStats,
    Finished,
    Hello,
    HttpCounts,
    Logprobs,
    Outputs,
    PageQuery,
    PageText,
    Started,
    Submit,
    ToFrontend,
    ToScheduler,
    pack,
    pack_floats,
)
from octavo.shared.process import STATE, Condition, Status
from octavo.shared.transport import Hub

EOS_ID = 2


class ScriptedScheduler(threading.Thread):
    """Beats, and answers each Submit with `reply` and EOS; with `endless`, token 70 for ever. What
    is asked for pages is answered with `page`, unless that is None."""

    def __init__(self, folder: Path, reply: list[int], epoch: int = 0) -> None:
        super().__init__(daemon=True)
        self.reply = reply
        self.epoch = epoch
        self.page: bytes | None = b"a page"
        self.queries: list[PageQuery] = []
        self.endless = False
        self.at_once = 1
        """Tokens of each running request in each turn."""
        self.aborted: list[bytes] = []
        self.submits: list[Submit] = []
        self.counts: list[HttpCounts] = []
        self._running: dict[bytes, tuple[Submit, bytes]] = {}
        self._peers: set[bytes] = set()
        self._stopping = threading.Event()
        self._hub: Hub[ToFrontend, ToScheduler] = Hub(folder, FRONTEND_SOCKET, ToScheduler)

    def run(self) -> None:
        while not self._stopping.is_set():
            self._hub.socket.poll(20)
            while (received := self._hub.receive()) is not None:
                self._handle(*received)
            for submit, peer in self._running.values():
                self._hub.send(peer, _endless(submit, self.at_once))
            for peer in self._peers:
                self._hub.send(peer, EngineStats(1, 0, 0, 0, blocks_total=1, epoch=self.epoch))
        self._hub.close()

    def _handle(self, peer: bytes, message: ToScheduler) -> None:
        match message:
            case Hello():
                self._peers.add(peer)
            case HttpCounts():
                self.counts.append(message)
            case PageQuery(query_id=number):
                self.queries.append(message)
                if self.page is not None:
                    self._hub.send(peer, PageText(number, self.page))
            case Submit():
                self.submits.append(message)
                if self.endless:
                    self._running[message.request_id] = message, peer
                else:
                    self._answer(peer, message.request_id)
            case Abort():
                self.aborted += message.request_ids
                for request_id in message.request_ids:
                    self._running.pop(request_id, None)

    def _answer(self, peer: bytes, request_id: bytes) -> None:
        ids = [*self.reply, EOS_ID]
        finished = Finished(request_id=request_id, reason="stop", stop_id=EOS_ID)
        outputs = Outputs(
            request_ids=request_id * len(ids),
            token_ids=pack(ids),
            started=[Started(request_id=request_id, cached_tokens=0)],
            finished=[finished],
        )
        self._hub.send(peer, outputs)

    def stop(self) -> None:
        self._stopping.set()
        self.join(5)


def _endless(submit: Submit, count: int) -> Outputs:
    """So many tokens 70, each as likely as those that follow it."""
    k = submit.sampling.logprobs
    rows = [[*range(70, 71 + k)] for _ in range(count)] if k is not None else []
    values = Logprobs(
        width=1 + (k or 0),
        token_ids=pack(rows),
        logprobs=pack_floats([[-1.5] * len(row) for row in rows]),
        ranks=pack([1] * len(rows)),
    )
    return Outputs(
        request_ids=submit.request_id * count,
        token_ids=pack([70] * count),
        logprob_rows=pack(range(len(rows))),
        logprobs=values if rows else None,
    )


class HttpProcess:
    """The child, its port, and the supervisor's ends of its pipes."""

    def __init__(self, config: ProcessConfig) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        control, self._control = os.pipe()
        self._status, status = os.pipe()
        passed = (control, status, self._listener.fileno())
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", f"octavo.services.{config.role}"),
                *("--control-fd", str(control), "--status-fd", str(status)),
                *("--parent", str(os.getpid()), "--listen-fd", str(self._listener.fileno())),
            ],
            pass_fds=passed,
        )
        os.close(control)
        os.close(status)
        self._listener.close()
        self._say(msgspec.json.encode(config))

    def wait_ready(self) -> Status:
        """Until it is, or has failed."""
        with os.fdopen(self._status, "rb", closefd=False) as lines:
            for line in lines:
                status = msgspec.json.decode(line, type=Status)
                if status.state in ("ready", "failed"):
                    return status
        raise EOFError

    def tell(self, condition: Condition) -> None:
        self._say(STATE + msgspec.json.encode(condition))

    def close(self) -> None:
        os.close(self._control)
        os.close(self._status)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)

    def _say(self, line: bytes) -> None:
        os.write(self._control, line + b"\n")


def process_config(
    role: Literal["frontend", "exporter"], folder: Path, model: Path, vocab_size: int, **config: Any
) -> ProcessConfig:
    return ProcessConfig(
        role=role,
        index=0,
        directory=str(folder),
        server=ServerConfig(
            engine=EngineConfig(model=str(model)), served_model_name=["tiny"], **config
        ),
        model=ModelInfo(
            architecture="LlamaForCausalLM",
            vocab_size=vocab_size,
            max_model_len=100_000,
            eos_token_ids=[EOS_ID],
        ),
    )


@contextlib.contextmanager
def frontend_process(
    folder: Path, model: Path, reply: list[int], vocab_size: int, **config: Any
) -> Iterator[tuple[HttpProcess, ScriptedScheduler]]:
    """A started child that has not been told that the engine is ready."""
    scheduler = ScriptedScheduler(folder, reply)
    scheduler.start()
    child = HttpProcess(process_config("frontend", folder, model, vocab_size, **config))
    try:
        yield child, scheduler
    finally:
        child.close()
        scheduler.stop()
