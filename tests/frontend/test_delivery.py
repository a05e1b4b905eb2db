"""What the engine says, handed to each request: one request's trouble is nobody else's."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import msgspec
import pytest
from front_engine import Frontend, run

from octavo.services.frontend.inbox import Stream
from octavo.shared.messages import (
    EngineStats,
    Outputs,
    PooledOutput,
    PromptLogprobsOutput,
    Submit,
    Until,
    unpack,
)
from octavo.shared.text.tokenizer import Tokenizer

PATH = "/v1/completions"
SECRET = "a text of the client's"


async def begin(front: Frontend, **fields: Any) -> asyncio.Task[httpx.Response]:
    """A request that the engine has been asked."""
    fields = {"prompt": "Hi", "max_tokens": 9, **fields}
    call = asyncio.create_task(front.post(PATH, **fields))
    await front.settle()
    return call


def broken(*args: object) -> None:
    raise KeyError(SECRET)


class Trouble:
    """A tracer that fails."""

    note = staticmethod(broken)


@pytest.mark.parametrize("what", ["add_token", "finish"])
def test_a_stream_that_cannot_be_filled_ends_alone(
    tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    async def test(front: Frontend) -> None:
        bad, good = await begin(front), await begin(front)
        first, second = front.engine.submits
        stream = front.engine_client._live[first.request_id]
        whole = getattr(Stream, what)
        calls: list[int] = []

        def fails_once(*args: Any) -> Any:
            calls.append(1)
            return broken() if len(calls) == 1 else whole(stream, *args)

        setattr(stream, what, fails_once)
        for submit in (first, second):
            front.engine.token(submit, 70, first=True, last=what == "finish")
        await front.settle()
        answer = await asyncio.wait_for(bad, 5)
        assert answer.status_code == 500 and answer.json()["error"]["code"] == "internal_error"
        if what == "add_token":
            assert front.engine.aborted == [first.request_id]
            front.engine.token(second, 71, last=True)
        assert (await asyncio.wait_for(good, 5)).status_code == 200
        assert front.engine_client.num_live == 0

    run(tokenizer, test, hold=True)
    assert caplog.text.count("\nKeyError\n") == 1 and SECRET not in caplog.text


def test_a_tracer_that_fails_costs_no_answer(
    tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(front: Frontend) -> None:
        front.engine_client.tracer = Trouble()  # type: ignore[assignment]
        call = await begin(front)
        front.engine.token(front.engine.submits[0], 70, first=True, last=True)
        assert (await asyncio.wait_for(call, 5)).status_code == 200

    run(tokenizer, test, hold=True)
    assert caplog.text.count("\nKeyError\n") == 1 and SECRET not in caplog.text


def test_a_message_that_is_wrong_ends_those_it_names(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        bad, good = await begin(front), await begin(front)
        first, second = (submit.request_id for submit in front.engine.submits)
        odd = Outputs(request_ids=first, token_ids=b"\0\0\0\0\0", admitted=[second])
        front.engine.inbox.put_nowait(odd)
        answer = await asyncio.wait_for(bad, 5)
        assert answer.json()["error"]["code"] == "internal_error"
        front.engine.token(front.engine.submits[1], 70, first=True, last=True)
        assert (await asyncio.wait_for(good, 5)).status_code == 200

    run(tokenizer, test, hold=True)


@pytest.mark.parametrize("kind", ["prompt_logprobs", "pooled"])
def test_what_belongs_to_nobody_hurts_nobody(tokenizer: Tokenizer, kind: str) -> None:
    async def test(front: Frontend) -> None:
        call = await begin(front)
        (submit,) = front.engine.submits
        odd: dict[str, Any] = {
            "prompt_logprobs": [PromptLogprobsOutput(bytes(16), 1, None)],  # type: ignore[arg-type]
            "pooled": [PooledOutput(bytes(16), b"")],
        }
        front.engine.inbox.put_nowait(Outputs(**{kind: odd[kind]}))
        front.engine.token(submit, 70, first=True, last=True)
        assert (await asyncio.wait_for(call, 5)).status_code == 200

    run(tokenizer, test, hold=True)


# --- the journal ----------------------------------------------------------------------------


async def next_scheduler(front: Frontend, epoch: int) -> Submit:
    """What the last request is to another scheduler."""
    stats = EngineStats(step=0, running=0, waiting=0, blocks_used=0, blocks_total=8, epoch=epoch)
    front.engine.inbox.put_nowait(stats)
    await front.settle()
    return front.engine.submits[-1]


DEADLINES = {"queue": 40_000, "ttft": 50_000, "total": 60_000}


def test_a_deadline_that_was_met_is_not_to_be_met_again(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        call = await begin(front, deadline_ms=DEADLINES)
        (submit,) = front.engine.submits
        whole = submit.until
        assert all((whole.queue, whole.first_token, whole.end))
        assert (await next_scheduler(front, 1)).until == whole
        front.engine.inbox.put_nowait(Outputs(admitted=[submit.request_id]))
        admitted = await next_scheduler(front, 2)
        assert admitted.until == msgspec.structs.replace(whole, queue=0.0)
        front.engine.token(submit, 70, first=True)
        begun = await next_scheduler(front, 3)
        assert begun.until == Until(end=whole.end)
        assert unpack(begun.output_ids).tolist() == [70]
        front.engine.token(submit, 71, last=True)
        assert (await asyncio.wait_for(call, 5)).status_code == 200

    run(tokenizer, test, hold=True)


def test_schedulers_that_it_survived_are_counted_until_it_gets_further(
    tokenizer: Tokenizer,
) -> None:
    async def test(front: Frontend) -> None:
        call = await begin(front)
        (submit,) = front.engine.submits
        survived = [(await next_scheduler(front, epoch)).survived for epoch in (1, 2)]
        front.engine.token(submit, 70, first=True)
        survived.append((await next_scheduler(front, 3)).survived)
        for _ in range(2):
            front.engine.token(submit, 71)
        survived.append((await next_scheduler(front, 4)).survived)
        assert survived == [1, 2, 3, 1]
        front.engine.token(submit, 72, last=True)
        await asyncio.wait_for(call, 5)

    run(tokenizer, test, hold=True)


# --- deadlines ------------------------------------------------------------------------------


def test_a_deadline_holds_while_the_engine_is_silent(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.now = time.monotonic()
        front.engine.beat()
        await front.settle()
        late = await begin(front, deadline_ms=5_000)
        later = await begin(front, deadline_ms=60_000)
        first, second = front.engine.submits
        front.engine_client.end_overdue()
        front.now += 5.1  # the engine is to say so itself
        front.engine_client.end_overdue()
        await front.settle()
        assert not late.done()
        front.now += 1
        front.engine_client.end_overdue()
        answer = await asyncio.wait_for(late, 5)
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline_exceeded"
        assert front.engine.aborted == [first.request_id] and not later.done()
        front.engine.token(second, 70, first=True, last=True)
        await asyncio.wait_for(later, 5)

    run(tokenizer, test, hold=True)


def test_somebody_looks_for_what_is_overdue(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.now = time.monotonic() + 3600
        front.engine.beat()
        await front.settle()
        call = await begin(front, deadline_ms=1)
        assert (await asyncio.wait_for(call, 10)).status_code == 504

    run(tokenizer, test, hold=True)
