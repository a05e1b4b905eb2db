"""Beam search against all outputs there are, over a toy model of three tokens and an end."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from front_engine import EOS_ID, FakeEngine, Frontend, RawCall, frontend

from octavo.services.frontend.terms import Terms
from octavo.shared.errors import EngineDead
from octavo.shared.messages import (
    Finished,
    Logprobs,
    Outputs,
    Started,
    Submit,
    Until,
    pack,
    pack_floats,
    unpack,
)
from octavo.shared.sampling import SamplingParams
from octavo.shared.text.tokenizer import Tokenizer

COMPLETIONS = "/v1/completions"
IDS = (EOS_ID, 70, 71, 72)
TABLE = {
    70: (0.05, 0.5, 0.4, 0.05),
    71: (0.3, 0.05, 0.05, 0.6),
    72: (0.55, 0.15, 0.2, 0.1),
}
"""Probabilities of IDS behind each token; behind any other as behind 70."""


def answer(engine: FakeEngine, submit: Submit) -> None:
    """One token, with the toy model's distribution as its logprobs."""
    assert (submit.sampling.max_tokens, submit.sampling.temperature) == (1, 0.0)
    k = submit.sampling.logprobs or 0
    last = unpack(submit.prompt_ids).tolist()[-1]
    ranked = sorted(zip(TABLE.get(last, TABLE[70]), IDS, strict=True), reverse=True)[:k]
    ranked += [(1e-30, 100 + i) for i in range(k - len(ranked))]
    ids = [ranked[0][1], *(token_id for _, token_id in ranked)]
    values = [math.log(p) for p, _ in (ranked[0], *ranked)]
    logprobs = Logprobs(
        width=k + 1, token_ids=pack(ids), logprobs=pack_floats(values), ranks=pack([1])
    )
    engine.inbox.put_nowait(
        Outputs(
            request_ids=submit.request_id,
            token_ids=pack(ids[:1]),
            logprob_rows=pack([0]),
            logprobs=logprobs,
            started=[Started(request_id=submit.request_id, cached_tokens=4)],
            finished=[Finished(request_id=submit.request_id, reason="length")],
        )
    )


def run(tokenizer: Tokenizer, test: Callable[[Frontend], Awaitable[None]]) -> None:
    async def main() -> None:
        async with frontend(tokenizer) as front:
            front.engine.answer = lambda submit: answer(front.engine, submit)  # type: ignore[method-assign]
            await test(front)

    asyncio.run(main())


def all_outputs(length: int, penalty: float) -> list[tuple[int, ...]]:
    """Every output of the toy model behind 70, best first."""
    scored = []
    for size in range(1, length + 1):
        for ids in itertools.product(IDS, repeat=size):
            ends = ids[-1] == EOS_ID
            if EOS_ID in ids[:-1] or not (ends or size == length):
                continue
            path = (70, *ids)
            logprob = sum(math.log(TABLE[a][IDS.index(b)]) for a, b in itertools.pairwise(path))
            scored.append((logprob / max(size - ends, 1) ** penalty, ids))
    return [ids for _, ids in sorted(scored, reverse=True)]


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_wide_beams_find_the_best_outputs(tokenizer: Tokenizer, penalty: float) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(
            COMPLETIONS,
            prompt=[70],
            use_beam_search=True,
            n=10,
            max_tokens=3,
            length_penalty=penalty,
            return_token_ids=True,
        )
        found = [tuple(choice["token_ids"]) for choice in response.json()["choices"]]
        assert found[:4] == all_outputs(3, penalty)[:4]
        assert len(found) == 10

    run(tokenizer, test)


def test_an_answer(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(
            "/v1/chat/completions",
            messages=[{"role": "user", "content": "Hi"}],
            add_generation_prompt=False,
            chat_template_kwargs={"shout": False},
            use_beam_search=True,
            n=2,
            max_tokens=4,
            seed=3,
        )
        assert response.status_code == 200, response.text
        first, second = response.json()["choices"]
        assert (first["index"], second["index"]) == (0, 1)
        assert {first["finish_reason"], second["finish_reason"]} <= {"stop", "length"}
        usage = response.json()["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == 4
        assert response.headers["x-octavo-ignored-fields"] == "seed"

    run(tokenizer, test)


def test_several_prompts(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        body = {"use_beam_search": True, "n": 2, "max_tokens": 3, "return_token_ids": True}
        both = await front.post(COMPLETIONS, prompt=[[70], [5, 71]], **body)
        choices = both.json()["choices"]
        assert [choice["prompt_token_ids"] for choice in choices] == [[70], [70], [5, 71], [5, 71]]
        alone = await front.post(COMPLETIONS, prompt=[5, 71], **body)
        assert [one["text"] for one in choices[2:]] == [
            one["text"] for one in alone.json()["choices"]
        ]

    run(tokenizer, test)


@pytest.mark.parametrize("ignore_eos", [False, True])
def test_the_end(tokenizer: Tokenizer, ignore_eos: bool) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(
            COMPLETIONS,
            prompt=[72],
            use_beam_search=True,
            max_tokens=5,
            ignore_eos=ignore_eos,
            return_token_ids=True,
        )
        (choice,) = response.json()["choices"]
        assert choice["finish_reason"] == ("length" if ignore_eos else "stop")
        assert len(choice["token_ids"]) == (5 if ignore_eos else 1)
        assert choice["stop_reason"] is None

    run(tokenizer, test)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 11}, "n"),
        ({"stream": True}, "stream"),
        ({"logprobs": 1}, "logprobs"),
        ({"prompt_logprobs": 1}, "prompt_logprobs"),
        ({"stop": "x"}, "stop"),
        ({"bad_words": ["x"]}, "bad_words"),
        ({"repetition_penalty": 1.2}, "repetition_penalty"),
    ],
)
def test_what_does_not_go_with_it(tokenizer: Tokenizer, fields: dict[str, Any], param: str) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(COMPLETIONS, prompt=[70], use_beam_search=True, **fields)
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)
        assert front.engine.submits == []

    run(tokenizer, test)


def test_its_steps_are_one_request(tokenizer: Tokenizer) -> None:
    """Taken in or turned away at the first, of all prompts; later ones are part of it."""

    async def test(front: Frontend) -> None:
        body = {"use_beam_search": True, "n": 2, "max_tokens": 4, "ignore_eos": True}
        deadline = {"queue": 40_000, "total": 60_000}
        answer = await front.post(COMPLETIONS, prompt=[[70], [71]], deadline_ms=deadline, **body)
        assert answer.status_code == 200
        first, steps = front.engine.submits[:2], front.engine.submits[2:]
        assert [(one.goes_on, one.num_choices) for one in first] == [(False, 1)] * 2
        assert [(one.goes_on, one.num_choices) for one in steps] == [(True, 0)] * 12
        until = first[0].until
        assert until.queue and {one.until for one in steps} == {Until(end=until.end)}

    run(tokenizer, test)


def test_a_search_goes_on_while_the_server_drains(tokenizer: Tokenizer) -> None:
    """And while the engine is away; not past the end of the drain."""

    async def test(front: Frontend) -> None:
        front.engine.hold = True
        body = {"use_beam_search": True, "n": 2, "max_tokens": 3, "ignore_eos": True}
        call = asyncio.create_task(front.post(COMPLETIONS, prompt=[70], **body))
        await front.settle()
        front.engine_client.closing = True
        front.now += 100
        answer(front.engine, front.engine.submits[0])
        await front.settle()
        for submit in front.engine.submits[1:]:
            answer(front.engine, submit)
        await front.settle()
        assert len(front.engine.submits) == 5
        front.engine_client.close("The server is shutting down.")
        response = await asyncio.wait_for(call, 5)
        assert response.status_code == 503
        with pytest.raises(EngineDead):
            await front.engine_client.submit([([70], SamplingParams())], Terms(goes_on=True))

    run(tokenizer, test)


def test_a_client_that_leaves_ends_the_search(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        body = b'{"prompt": [70], "use_beam_search": true, "n": 2, "max_tokens": 50}'
        call = RawCall(front.app, COMPLETIONS, body)
        await front.settle()
        (first,) = front.engine.submits
        answer(front.engine, first)
        await front.settle()
        assert len(front.engine.submits) == 3
        call.disconnect()
        await call.task
        await front.settle()
        assert set(front.engine.aborted) == {one.request_id for one in front.engine.submits[1:]}
        assert front.engine_client.num_live == 0

    run(tokenizer, test)
