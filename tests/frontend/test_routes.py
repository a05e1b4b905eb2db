"""The smaller routes, and what happens when a client or the engine goes away."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from front_engine import EOS_ID, Frontend, RawCall, parse_events, run

from octavo.services.frontend import engine_client
from octavo.shared.messages import Begun, Outputs, Started, pack
from octavo.shared.process import Condition
from octavo.shared.text.template_job import TemplateJob
from octavo.shared.text.tokenizer import Tokenizer

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "Hi"}]


def chat_body(**fields: Any) -> bytes:
    return json.dumps({"messages": HI, **fields}).encode()


def test_models(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        listed = (await front.client.get("/v1/models")).json()
        assert listed["object"] == "list"
        assert [card["id"] for card in listed["data"]] == ["tiny", "alias"]
        card = listed["data"][0]
        assert (card["object"], card["max_model_len"]) == ("model", 128)
        assert {"created", "owned_by", "root", "parent", "permission"} <= set(card)
        assert (await front.client.get("/v1/models/alias")).json()["id"] == "alias"
        assert (await front.client.get("/v1/models/other")).status_code == 404

    run(tokenizer, test)


def test_tokenize_and_back(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        ids = tokenizer.encode("Hello 😀")
        answer = (await front.post("/tokenize", prompt="Hello 😀")).json()
        assert answer == {
            "count": len(ids),
            "max_model_len": 128,
            "tokens": ids,
            "token_strs": None,
        }
        bare = await front.post(
            "/tokenize", prompt="Hello", add_special_tokens=False, return_token_strs=True
        )
        assert "".join(bare.json()["token_strs"]) == "Hello"
        chat = (await front.post("/tokenize", messages=HI)).json()
        assert chat["tokens"] == tokenizer.apply_chat_template(HI)
        back = (await front.post("/detokenize", tokens=ids)).json()
        assert back == {"prompt": "<|bos|>Hello 😀"}

    run(tokenizer, test)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {}),
        ("/tokenize", {"prompt": "x", "messages": HI}),
        ("/tokenize", {"prompt": 5}),
        ("/detokenize", {}),
        ("/detokenize", {"tokens": [10**6]}),
        ("/detokenize", {"tokens": "x"}),
    ],
)
def test_token_routes_refuse(tokenizer: Tokenizer, path: str, body: dict[str, Any]) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(path, **body)
        assert response.status_code == 400 and response.json()["error"]["param"]

    run(tokenizer, test)


def test_probes(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        assert front.engine.hello == 1
        for response in (
            await front.client.get("/health"),
            await front.client.get("/ping"),
            await front.client.post("/ping"),
        ):
            assert (response.status_code, response.content) == (200, b"")
        assert set((await front.client.get("/version")).json()) == {"version"}
        assert (await front.client.get("/load")).json() == {"server_load": 3}
        metrics = await front.client.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "vllm:num_requests_running" in metrics.text

    run(tokenizer, test)


def test_a_silent_engine_is_not_healthy(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.now = 5.1
        assert (await front.client.get("/health")).status_code == 503
        refused = await front.post(CHAT, messages=HI)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "engine_dead"
        front.engine.beat()
        await front.settle()
        assert (await front.client.get("/health")).status_code == 200

    run(tokenizer, test)


def test_health_turns_before_requests_are_refused(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.now = 1.8
        sick = await front.client.get("/health/ready")
        assert (sick.status_code, sick.json()["state"]) == (503, "degraded")
        assert sick.json()["error"]["message"] == "The scheduler gives no sign of progress."
        assert (await front.post(CHAT, messages=HI)).status_code == 200
        front.engine.beat(stalled=True)
        await front.settle()
        sick = await front.client.get("/health")
        assert (sick.status_code, sick.json()["error"]["code"]) == (503, "degraded")
        front.engine.beat()
        await front.settle()
        assert (await front.client.get("/health/ready")).json() == {"state": "ready"}

    run(tokenizer, test)


def test_while_the_engine_is_mended_nobody_gives_up(tokenizer: Tokenizer) -> None:
    """However long it takes: that is for the supervisor to judge."""

    async def test(front: Frontend) -> None:
        front.engine.hold = True
        first = RawCall(front.app, CHAT, chat_body())
        await front.settle()
        client, front.now = front.engine_client, 1000.0
        client.told = Condition("degraded", "loading weights 45 %")
        client._check()
        second = RawCall(front.app, CHAT, chat_body())
        await front.settle()
        sick = await front.client.get("/health/ready")
        assert sick.json()["progress"] == "loading weights 45 %"
        assert not (first.task.done() or second.task.done()) and len(front.engine.submits) == 2
        client.told = Condition("ready")
        client._check()
        await asyncio.gather(first.task, second.task)
        assert first.sent[0]["status"] == 503

    run(tokenizer, test)


def test_metrics_do_not_wait_for_ever(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(front: Frontend) -> None:
        monkeypatch.setattr(engine_client, "METRICS_TIMEOUT", 0.02)
        front.engine.answers_metrics = False
        assert (await front.client.get("/metrics")).status_code == 503

    run(tokenizer, test)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("tokens", [0, 2])
def test_a_client_that_leaves_aborts_at_once(
    tokenizer: Tokenizer, streamed: bool, tokens: int
) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        call = RawCall(front.app, CHAT, chat_body(stream=streamed, n=2))
        await front.settle()
        for _ in range(tokens):
            front.engine.token(front.engine.submits[0], 70)
        await front.settle()
        call.disconnect()
        await front.settle()
        assert sorted(front.engine.aborted) == sorted(s.request_id for s in front.engine.submits)
        await asyncio.wait_for(call.task, 5)
        assert front.engine_client.num_live == 0

    run(tokenizer, test)


def test_a_client_that_leaves_before_its_body_is_read(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        call = RawCall(front.app, CHAT, b"")
        call._incoming.get_nowait()
        call.disconnect()
        await asyncio.wait_for(call.task, 5)
        assert front.engine.submits == []

    run(tokenizer, test)


def test_the_stream_writes_each_token_as_it_comes(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        call = RawCall(front.app, CHAT, chat_body(stream=True))
        await front.settle()
        assert call.sent == []
        [submit] = front.engine.submits
        for count in (1, 2):
            front.engine.token(submit, 70, first=count == 1)
            await front.settle()
            assert len(parse_events(call.body.decode())) == count
        headers = dict(call.sent[0]["headers"])
        assert headers[b"x-accel-buffering"] == b"no" and b"content-length" not in headers
        front.engine.token(submit, 2, last=True)
        await asyncio.wait_for(call.task, 5)
        assert call.sent[-1]["more_body"] is False

    run(tokenizer, test)


def test_a_slow_socket_gets_tokens_together(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        call = RawCall(front.app, CHAT, chat_body(stream=True))
        await front.settle()
        [submit] = front.engine.submits
        front.engine.token(submit, 70, first=True)
        await front.settle()
        live = front.engine_client._live[submit.request_id]
        for _ in range(5):
            live.add_token(70)
        front.engine.token(submit, 2, last=True)
        await asyncio.wait_for(call.task, 5)
        *chunks, done = parse_events(call.body.decode())
        texts = [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
        assert texts[:2] == [tokenizer.token_text(70), tokenizer.token_text(70) * 5]
        assert done == "[DONE]"

    run(tokenizer, test)


def test_silence_is_filled_with_comments(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        call = RawCall(front.app, CHAT, chat_body(stream=True))
        await asyncio.sleep(0.1)
        assert call.body.startswith(b": keep-alive\n\n")
        front.engine.answer(front.engine.submits[0])
        await asyncio.wait_for(call.task, 5)
        assert call.body.endswith(b"data: [DONE]\n\n")

    run(tokenizer, test, sse_keep_alive_interval=0.01)


def test_stopping_ends_streams_with_an_error_event(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        streamed = RawCall(front.app, CHAT, chat_body(stream=True))
        waiting = RawCall(front.app, CHAT, chat_body())
        await front.settle()
        front.engine.token(front.engine.submits[0], 70, first=True)
        await front.settle()
        front.engine_client.close("The server is shutting down.")
        await asyncio.gather(streamed.task, waiting.task)
        *_, last = parse_events(streamed.body.decode())
        assert last["error"]["code"] == "engine_dead"
        assert waiting.sent[0]["status"] == 503
        await front.engine_client.drained()
        assert len(front.engine.aborted) == 2
        assert (await front.client.get("/health")).status_code == 503
        assert (await front.post(CHAT, messages=HI)).status_code == 503

    run(tokenizer, test)


def test_a_dead_engine_ends_what_waits_for_it(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        call = RawCall(front.app, CHAT, chat_body())
        await front.settle()
        front.now = 61.0
        await asyncio.wait_for(call.task, 5)
        assert call.sent[0]["status"] == 503

    run(tokenizer, test)


def test_outputs_for_unknown_requests_are_dropped(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        await front.post(CHAT, messages=HI)
        [submit] = front.engine.submits
        front.engine.token(submit, 70, first=True, last=True)
        await front.settle()
        assert (await front.post(CHAT, messages=HI)).status_code == 200

    run(tokenizer, test)


def test_another_scheduler_is_told_all_again(tokenizer: Tokenizer) -> None:
    """What is left to do, when it began, and nothing of what the last one has counted."""

    async def test(front: Frontend) -> None:
        front.engine.hold = True
        await front.client.get("/v1/models")
        front.engine.beat()
        asked = asyncio.create_task(front.post("/v1/completions", prompt="x", max_tokens=2))
        await front.settle()
        (submit,) = front.engine.submits
        started = Started(submit.request_id, 0, Begun(admitted=1.0, first_token=2.0))
        front.engine.inbox.put_nowait(
            Outputs(request_ids=submit.request_id, token_ids=pack([70]), started=[started])
        )
        await front.settle()
        before = time.monotonic()
        front.engine.beat(epoch=1)
        await front.settle()
        again = front.engine.submits[-1]
        assert again.output_ids == pack([70])
        assert (again.begun.admitted, again.begun.first_token) == (1.0, 2.0)
        assert submit.arrival_time < again.begun.token < before
        assert not front.engine_client.http.counts().routes
        front.engine.token(again, EOS_ID, last=True)
        assert (await asked).status_code == 200

    run(tokenizer, test)


def test_a_request_has_come_when_its_body_is_there(tokenizer: Tokenizer) -> None:
    """Before its prompt is made; what is asked for it later comes later."""

    async def test(front: Frontend) -> None:
        rendered: list[float] = []
        render = front.templates.render

        async def noted(job: TemplateJob) -> str:
            rendered.append(time.monotonic())
            return await render(job)

        front.templates.render = noted  # type: ignore[method-assign]
        before = time.monotonic()
        await front.post(CHAT, messages=HI, n=2)
        (first, second) = front.engine.submits
        assert before < first.arrival_time == second.arrival_time < rendered[0]
        assert first.parent == second.parent == first.request_id
        assert first.family == second.family == first.request_id
        await front.post(CHAT, messages=HI, use_beam_search=True, n=1, max_tokens=3)
        arrivals = [one.arrival_time for one in front.engine.submits[2:]]
        assert arrivals == sorted(set(arrivals)) and arrivals[0] < rendered[1] < arrivals[1]

    run(tokenizer, test)


def test_what_the_text_has_ended_is_no_abort(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.reply_to = lambda submit: tokenizer.encode("aaaa bbbb", False) * 4
        await front.post("/v1/completions", prompt="x", max_tokens=20, stop=["b"])
        await front.settle()
        assert front.engine.reasons == ["stop"]

    run(tokenizer, test)
