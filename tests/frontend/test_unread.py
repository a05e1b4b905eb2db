"""Tokens that nobody has read: bounded in what is kept, and in what is taken at a time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from front_engine import fake_logprobs, frontend
from front_tokenizers import load_byte_level

from octavo.services.frontend.inbox import KEPT_BYTES, TAKEN_BYTES, Inbox, Piece, Stream
from octavo.shared.messages import Finished, Submit, pack
from octavo.shared.sampling import SamplingParams
from octavo.shared.text.logprobs import unpack_logprobs

ID = b"x" * 16


def stream_of(logprobs: int | None) -> Stream:
    [stream] = Inbox([ID]).streams
    stream.submit = Submit(ID, pack([1]), SamplingParams(logprobs=logprobs), 0.0)
    return stream


def fill(stream: Stream, count: int, k: int | None) -> None:
    for token_id in range(count):
        if k is not None:
            stream.add_logprobs(fake_logprobs([9, token_id], k), 1)
        stream.add_token(token_id)


def pieces_of(stream: Stream) -> list[Piece]:
    found = []
    while stream.inbox.has_news:
        found += [piece for _, piece in stream.inbox.take()]
    return found


def test_much_is_taken_in_parts_and_in_order() -> None:
    for k in (None, 0, 20):
        stream = stream_of(k)
        fill(stream, 1000, k)
        stream.finish(Finished(ID, "length"))
        pieces = pieces_of(stream)
        assert [i for piece in pieces for i in piece.token_ids] == list(range(1000))
        assert [piece.finished is not None for piece in pieces] == [False] * (len(pieces) - 1) + [
            True
        ]
        assert max(len(piece.token_ids) for piece in pieces) <= TAKEN_BYTES // 32
        entries = [entry for piece in pieces for entry in piece.logprobs]
        if k is not None:
            wide = unpack_logprobs(fake_logprobs(list(range(1000)), k))
            assert [(one.token_id, one.logprob, one.rank) for one in entries] == [
                (one.token_id, one.logprob, one.rank) for one in wide
            ]
            assert [one.top for one in entries] == [one.top[:k] for one in wide]


def test_more_than_is_kept_is_a_flood() -> None:
    for k, most in ((None, 32_768), (20, 5_140)):
        stream = stream_of(k)
        fill(stream, most, k)
        assert not stream.inbox.is_flooded
        fill(stream, 10, k)
        assert stream.inbox.is_flooded
        stream.inbox.take()
        assert not stream.inbox.is_flooded, KEPT_BYTES
        pieces_of(stream)
        assert stream.resubmitted(0.0).output_ids == pack([*range(most), *range(10)])


def test_what_comes_at_once_is_all_in_the_answer(tmp_path: Path) -> None:
    """A hundred tokens and their alternatives, whole and streamed."""

    async def main() -> None:
        async with frontend(load_byte_level(tmp_path)) as front:
            front.engine.reply = [70 + i % 20 for i in range(100)]
            for stream in (False, True):
                body = {"prompt": "Hi", "logprobs": 5, "max_tokens": 100, "stream": stream}
                answer = await front.post("/v1/completions", **body)
                assert answer.text.count("[DONE]") == stream
                expected = [front.tokenizer.token_text(one) for one in front.engine.reply]
                assert tokens_of(answer.text) == expected

    asyncio.run(main())


def tokens_of(text: str) -> list[str]:
    events = [one.removeprefix("data: ") for one in text.split("\n\n") if '"choices"' in one]
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return [token for choice in choices for token in choice["logprobs"]["tokens"]]
