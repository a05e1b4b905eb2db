"""Streams that clients come back to."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from front_engine import Frontend, RawCall, frontend, parse_events

from octavo.services.frontend import replay
from octavo.shared.text.tokenizer import Tokenizer

CHAT = "/v1/chat/completions"
BODY = b'{"messages": [{"role": "user", "content": "Hi"}], "stream": true}'
ASK = (b"x-octavo-resumable", b"1")
ID = re.compile(r"^id: ([0-9a-f]{34}-\d+)\n", re.M)


def run(tokenizer: Tokenizer, test: Callable[[Frontend], Awaitable[None]], **config: Any) -> None:
    async def main() -> None:
        async with frontend(tokenizer, "Hello world, hello there!", **config) as front:
            await test(front)

    asyncio.run(main())


async def finished(call: RawCall) -> str:
    await asyncio.wait_for(call.task, 5)
    return call.body.decode()


def ids_of(text: str) -> list[str]:
    return ID.findall(text)


def plain(text: str) -> list[Any]:
    return parse_events(ID.sub("", text))


def back(front: Frontend, event_id: str, *headers: tuple[bytes, bytes]) -> RawCall:
    return RawCall(front.app, CHAT, b"", [(b"last-event-id", event_id.encode()), *headers])


def test_every_border_can_be_come_back_to(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        whole = await finished(RawCall(front.app, CHAT, BODY, [ASK]))
        ids = ids_of(whole)
        assert len(ids) == len(plain(whole)) and plain(whole)[-1] == "[DONE]"
        for number, event_id in enumerate(ids, start=1):
            rest = await finished(back(front, event_id))
            assert ids_of(rest) == ids[number:]
            assert plain(rest) == plain(whole)[number:]
        stream_id = ids[0].partition("-")[0]
        again = await front.client.get(f"/v1/streams/{stream_id}")
        assert again.text == whole and again.headers["x-octavo-stream"] == stream_id
        assert len(front.engine.submits) == 1

    run(tokenizer, test)


def test_the_answer_goes_on_while_its_client_is_away(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        first = RawCall(front.app, CHAT, BODY, [ASK])
        await front.settle()
        [submit] = front.engine.submits
        front.engine.token(submit, 70, first=True)
        await front.settle()
        [event_id] = ids_of(first.body.decode())
        first.disconnect()
        await finished(first)
        front.engine.token(submit, 71)
        await front.settle()
        second = back(front, event_id)
        await front.settle()
        front.engine.token(submit, 72, last=True)
        rest = plain(await finished(second))
        said = "".join(c["choices"][0]["delta"].get("content", "") for c in rest[:-1])
        assert said == tokenizer.decode([71, 72]) and rest[-1] == "[DONE]"
        assert not front.engine.aborted

    run(tokenizer, test)


def test_the_last_reader_is_the_one(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        first = RawCall(front.app, CHAT, BODY, [ASK])
        await front.settle()
        [submit] = front.engine.submits
        front.engine.token(submit, 70, first=True)
        await front.settle()
        second = back(front, ids_of(first.body.decode())[0])
        await finished(first)
        front.engine.token(submit, 71, last=True)
        assert plain(await finished(second))[-1] == "[DONE]"
        assert "[DONE]" not in first.body.decode()

    run(tokenizer, test)


def test_a_stream_is_its_owners_alone(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        mine, theirs = (b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")
        [event_id, *_] = ids_of(await finished(RawCall(front.app, CHAT, BODY, [ASK, mine])))
        for other in (back(front, event_id, theirs), back(front, f"{'0' * 34}-1", mine)):
            assert "stream_not_found" in await finished(other)
            assert other.sent[0]["status"] == 404
        ahead = back(front, event_id.partition("-")[0] + "-999", mine)
        assert "stream_gone" in await finished(ahead) and ahead.sent[0]["status"] == 410
        assert "[DONE]" in await finished(back(front, event_id, mine))

    run(tokenizer, test, api_key=["a", "b"])


def test_what_nobody_comes_back_to_is_aborted(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "KEEP_SECONDS", 0.05)

    async def test(front: Frontend) -> None:
        front.engine.hold = True
        call = RawCall(front.app, CHAT, BODY, [ASK])
        await front.settle()
        [submit] = front.engine.submits
        front.engine.token(submit, 70, first=True)
        await front.settle()
        call.disconnect()
        await finished(call)
        await asyncio.sleep(0.3)
        assert front.engine.aborted == [submit.request_id]
        gone = back(front, ids_of(call.body.decode())[0])
        assert "stream_not_found" in await finished(gone)

    run(tokenizer, test)


def test_only_so_much_is_kept(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "STREAM_BYTES", 1000)

    async def test(front: Frontend) -> None:
        ids = ids_of(await finished(RawCall(front.app, CHAT, BODY, [ASK])))
        assert "stream_gone" in await finished(back(front, ids[0]))

    run(tokenizer, test)


def test_for_all_by_a_flag(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        assert ids_of(await finished(RawCall(front.app, CHAT, BODY)))
        refused = RawCall(front.app, CHAT, BODY, [(b"x-octavo-resumable", b"0")])
        assert not ids_of(await finished(refused))

    run(tokenizer, test, resumable_streams=True)


def test_an_answer_that_comes_at_once_ends_once(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.reply = [70]
        front.engine.hold = True
        call = RawCall(front.app, CHAT, BODY.replace(b"}]", b'}], "max_tokens": 1'), [ASK])
        await front.settle()
        front.engine.token(front.engine.submits[0], 70, first=True, last=True)
        assert (await finished(call)).count("[DONE]") == 1

    run(tokenizer, test)


def test_what_is_too_much_for_all_goes_and_its_reader_is_told(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "TOTAL_BYTES", 1000)

    async def test(front: Frontend) -> None:
        front.engine.hold = True
        call = RawCall(front.app, CHAT, BODY, [ASK])
        await front.settle()
        for number in range(8):
            front.engine.token(front.engine.submits[0], 70, first=number == 0)
            await front.settle()
        assert "stream_gone" in await finished(call)
        assert front.engine.aborted

    run(tokenizer, test)


def test_only_streams_are_resumed(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        [event_id, *_] = ids_of(await finished(RawCall(front.app, CHAT, BODY, [ASK])))
        header = {"Last-Event-ID": event_id}
        assert (await front.client.get("/version", headers=header)).json().keys() == {"version"}
        other = await front.client.get(f"/v1/streams/{'0' * 34}", headers=header)
        assert other.status_code == 400
        assert (await front.client.get("/v1/streams/x")).status_code == 404
        wrong = back(front, "nonsense")
        assert "Last-Event-ID" in await finished(wrong) and wrong.sent[0]["status"] == 400
        assert len(front.engine.submits) == 1

    run(tokenizer, test)
