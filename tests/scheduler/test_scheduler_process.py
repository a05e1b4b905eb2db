"""The scheduler as a process: handshake, one request over real sockets, SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sched_fake_worker import FakeWorker, expected_output
from sched_harness import VOCAB, submit_of

from octavo.services.scheduler.limits import Limits, queued_tokens
from octavo.shared.config import (
    FRONTEND_SOCKET,
    WORKER_SOCKET,
    EngineConfig,
    ModelInfo,
    ProcessConfig,
    ServerConfig,
)
from octavo.shared.errors import ConfigError
from octavo.shared.messages import EngineStats, Hello, Outputs, ToFrontend, unpack
from octavo.shared.steps import Adopt, StepPlan, Stop, ToWorker, WorkerReady
from octavo.shared.transport import Spoke

SECONDS = 20.0


def config_of(directory: Path, **engine: object) -> ProcessConfig:
    values = {
        "model": "/models/tiny",
        "max_model_len": 64,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 16,
        "block_size": 16,
    }
    return ProcessConfig(
        role="scheduler",
        index=0,
        directory=str(directory),
        server=ServerConfig(engine=EngineConfig(**(values | engine))),  # type: ignore[arg-type]
        model=ModelInfo(architecture="Llama", vocab_size=VOCAB, max_model_len=64, eos_token_ids=[]),
    )


class Process:
    """The child with its two pipes."""

    def __init__(self, config: ProcessConfig) -> None:
        control, self._control = os.pipe()
        self._status, status = os.pipe()
        self.child = subprocess.Popen(
            [
                *(sys.executable, "-m", "octavo.services.scheduler"),
                *("--control-fd", str(control), "--status-fd", str(status)),
                *("--parent", str(os.getpid())),
            ],
            pass_fds=(control, status),
        )
        os.close(control)
        os.close(status)
        os.write(self._control, msgspec.json.encode(config) + b"\n")

    def status(self) -> dict[str, object]:
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = os.read(self._status, 1)
            assert byte, "the scheduler closed its status pipe"
            line += byte
        found = json.loads(line)
        assert isinstance(found, dict)
        return found if found["state"] not in ("alive", "pulse") else self.status()

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self._control)
        os.close(self._status)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process(config_of(tmp_path))
    yield process
    process.close()


def test_a_request_over_real_sockets(process: Process, tmp_path: Path) -> None:
    worker: Spoke[object, ToWorker] = Spoke(tmp_path, WORKER_SOCKET, b"rank-0", ToWorker)
    frontend: Spoke[object, ToFrontend] = Spoke(
        tmp_path, FRONTEND_SOCKET, b"frontend-0", ToFrontend
    )
    worker.send(WorkerReady(rank=0, num_blocks=32))
    assert process.status() == {
        "state": "ready",
        "info": {"num_blocks": 32, "kv_tokens": 512, "block_size": 16, "max_concurrency": 8.0},
    }
    submit = submit_of(0, [1, 2, 3], max_tokens=3)
    frontend.send(Hello())
    frontend.send(submit)
    fake = FakeWorker(num_blocks=32, block_size=16, max_num_seqs=4, vocab=VOCAB)
    assert isinstance(worker.receive(SECONDS), Adopt)
    for _ in range(3):
        plan = worker.receive(SECONDS)
        assert isinstance(plan, StepPlan)
        worker.send(fake.run(plan))
    ids: list[int] = []
    while len(ids) < 3:
        message = frontend.receive(SECONDS)
        assert isinstance(message, Outputs | EngineStats)
        if isinstance(message, Outputs):
            ids += unpack(message.token_ids).tolist()
    assert ids == expected_output([1, 2, 3], submit.sampling, VOCAB, 64)[0]
    process.child.send_signal(signal.SIGTERM)
    assert isinstance(worker.receive(SECONDS), Stop)
    assert process.child.wait(SECONDS) == 0
    worker.close()
    frontend.close()


def test_sigterm_before_the_workers_are_ready(process: Process, tmp_path: Path) -> None:
    worker: Spoke[object, ToWorker] = Spoke(tmp_path, WORKER_SOCKET, b"rank-1", ToWorker)
    while not (tmp_path / WORKER_SOCKET).exists():
        assert process.child.poll() is None
        time.sleep(0.01)
    process.child.send_signal(signal.SIGINT)
    process.child.send_signal(signal.SIGTERM)
    assert process.child.wait(SECONDS) == 0
    worker.close()


def test_an_unresolved_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="block_size"):
        Limits.of(config_of(tmp_path, block_size=None), 32)
    limits = Limits.of(config_of(tmp_path, enable_prefix_caching=False), 32)
    assert (limits.kv_tokens, limits.prefix_caching, limits.blocks_for(17)) == (512, False, 2)


@pytest.mark.parametrize(
    ("num_blocks", "context", "requests", "tokens"),
    [
        (56_000, 8192, 4096, 8 * 56_000 * 16),  # a large GPU: by its KV cache
        (3_000, 8192, 4096, 4096 * 1024),  # a small one: by the requests
        (3_000, 131_072, 64, 64 * 131_072),  # by the context
    ],
)
def test_waiting_tokens_are_bounded_by_default(
    tmp_path: Path, num_blocks: int, context: int, requests: int, tokens: int
) -> None:
    config = config_of(tmp_path, max_model_len=context)
    server = msgspec.structs.replace(config.server, max_queued_requests=requests)
    config = msgspec.structs.replace(config, server=server)
    assert Limits.of(config, num_blocks).max_queued_tokens == tokens
    assert queued_tokens(server) == max(64 * context, 1024 * requests), "without workers"
    server = msgspec.structs.replace(server, max_queued_tokens=1000)
    config = msgspec.structs.replace(config, server=server)
    assert Limits.of(config, num_blocks).max_queued_tokens == queued_tokens(server) == 1000
