"""The two servers' other ends: the paced engine, and the plain server's stream."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.front.paced_engine import PacedEngine
from bench.front.plain_server import Beat, events
from bench.frontend import cpu_seconds
from octavo.shared.config import FRONTEND_SOCKET
from octavo.shared.messages import (
    Abort,
    EngineStats,
    Hello,
    Outputs,
    Submit,
    ToFrontend,
    ToScheduler,
    pack,
    unpack,
)
from octavo.shared.sampling import SamplingParams
from octavo.shared.transport import Spoke

Front = Spoke[ToScheduler, ToFrontend]
A, B = bytes(16), bytes(15) + b"\1"


@pytest.fixture
def pair() -> Iterator[tuple[PacedEngine, Front]]:
    with tempfile.TemporaryDirectory() as name:  # a short path: ipc addresses are limited
        engine = PacedEngine(Path(name))
        front: Front = Spoke(Path(name), FRONTEND_SOCKET, b"frontend-0", ToFrontend)
        yield engine, front
        front.close()
        engine.close()


def say(engine: PacedEngine, front: Front, *messages: ToScheduler) -> None:
    for message in messages:
        front.send(message)
        engine.wait(5000)


def submit(request_id: bytes, max_tokens: int) -> Submit:
    sampling = SamplingParams(max_tokens=max_tokens)
    return Submit(request_id, pack([1]), sampling, arrival_time=0.0)


def step(engine: PacedEngine, front: Front) -> ToFrontend | None:
    """The step's tokens, or its statistics where it had none."""
    engine.advance()
    message = front.receive(5)
    if isinstance(message, Outputs):
        assert isinstance(front.receive(5), EngineStats)
    return message


def test_one_token_each_a_step(pair: tuple[PacedEngine, Front]) -> None:
    engine, front = pair
    say(engine, front, Hello(), submit(A, 2), submit(B, 1))
    first, second, third = (step(engine, front) for _ in range(3))
    assert isinstance(first, Outputs) and isinstance(second, Outputs)
    assert (first.request_ids, len(unpack(first.token_ids))) == (A + B, 2)
    assert [each.request_id for each in first.started] == [A, B]
    assert [(each.request_id, each.reason) for each in first.finished] == [(B, "length")]
    assert (second.request_ids, second.started) == (A, [])
    assert [each.request_id for each in second.finished] == [A]
    assert isinstance(third, EngineStats) and third.running == 0


def test_an_abort_ends_a_request(pair: tuple[PacedEngine, Front]) -> None:
    engine, front = pair
    say(engine, front, Hello(), submit(A, 9), submit(B, 9), Abort([A]))
    outputs = step(engine, front)
    assert isinstance(outputs, Outputs) and outputs.request_ids == B
    assert [each.request_id for each in outputs.started] == [B]


def test_the_plain_stream() -> None:
    async def collect() -> list[str]:
        beat = Beat(0.001)
        beating = asyncio.create_task(beat.run())
        found = [event async for event in events(beat, 3)]
        beating.cancel()
        return found

    *tokens, end = asyncio.run(collect())
    choices = [json.loads(event.removeprefix("data: "))["choices"][0] for event in tokens]
    assert [choice["finish_reason"] for choice in choices] == [None, None, "length"]
    assert end.endswith("data: [DONE]\n\n") and '"completion_tokens": 3' in end


def test_cpu_seconds() -> None:
    before = cpu_seconds(os.getpid())
    assert 0 < before <= cpu_seconds(os.getpid())
