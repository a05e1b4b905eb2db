"""Embeddings, classes, scores and rankings over HTTP, with an engine that gives known vectors."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from front_engine import Frontend, RawCall, fake_vector, frontend
from pooling_checkpoints import CLS, SEP, save_word_tokenizer

from octavo.shared.messages import Submit, unpack
from octavo.shared.pooling import PoolingInfo, cosine
from octavo.shared.text.text_ids import shares
from octavo.shared.text.tokenizer import Tokenizer

EMBED = PoolingInfo(task="embed", pooler="last", dimension=8, normalize=True)
SCORER = PoolingInfo(
    task="classify", pooler="cls", dimension=1, activation="sigmoid", labels=["LABEL_0"]
)
THREE = PoolingInfo(task="classify", pooler="cls", dimension=3, labels=["bad", "fair", "good"])
RERANKS = ("/rerank", "/v1/rerank", "/v2/rerank")
SCORES = ("/score", "/v1/score")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """One id a letter, [CLS] and [SEP] around."""
    path: Path = tmp_path_factory.mktemp("words")
    save_word_tokenizer(path)
    return Tokenizer.load(path)


def run(
    tokenizer: Tokenizer,
    test: Callable[[Frontend], Awaitable[None]],
    pooling: PoolingInfo | None = EMBED,
    **config: Any,
) -> None:
    async def main() -> None:
        async with frontend(tokenizer, pooling=pooling, **config) as front:
            await test(front)

    asyncio.run(main())


def prompts(front: Frontend) -> list[list[int]]:
    return [unpack(submit.prompt_ids).tolist() for submit in front.engine.submits]


@pytest.mark.parametrize(
    "given", ["Hello", ["Hello", "world", "Hello"], [5, 6, 7], [[5, 6], [7], [8, 9, 10]]]
)
def test_every_form_of_input(tokenizer: Tokenizer, given: Any) -> None:
    async def test(front: Frontend) -> None:
        answer = (await front.post("/v1/embeddings", input=given, model="alias")).json()
        several = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
        ids = [one if isinstance(one, list) else tokenizer.encode(one) for one in several]
        assert prompts(front) == ids
        assert (answer["object"], answer["model"]) == ("list", "alias")
        assert [one["index"] for one in answer["data"]] == list(range(len(ids)))
        assert [one["embedding"] for one in answer["data"]] == list(map(fake_vector, ids))
        total = sum(map(len, ids))
        assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] == total

    run(tokenizer, test)


def test_answers_are_in_the_order_of_the_inputs(tokenizer: Tokenizer) -> None:
    """Whatever the order in which the engine finishes them."""

    async def test(front: Frontend) -> None:
        front.engine.hold = True
        asked = asyncio.create_task(front.post("/v1/embeddings", input=[[3], [4], [5]]))
        await front.settle()
        for submit in reversed(front.engine.submits):
            front.engine.answer(submit)
            await front.settle()
        data = (await asked).json()["data"]
        assert [one["embedding"] for one in data] == [fake_vector([i]) for i in (3, 4, 5)]

    run(tokenizer, test)


def test_base64_is_little_endian_float32(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        answer = await front.post("/v1/embeddings", input=[[1, 2], [3]], encoding_format="base64")
        found = [base64.b64decode(one["embedding"]) for one in answer.json()["data"]]
        vectors = [np.frombuffer(one, "<f4").tolist() for one in found]
        assert vectors == [fake_vector([1, 2]), fake_vector([3])]

    run(tokenizer, test)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, (None, None)),
        ({"dimensions": 3}, (3, None)),
        ({"dimensions": 8, "normalize": False}, (8, False)),
        ({"use_activation": True}, (None, True)),
    ],
)
def test_what_is_asked_of_the_vectors(
    tokenizer: Tokenizer, fields: dict[str, Any], wanted: tuple[int | None, bool | None]
) -> None:
    async def test(front: Frontend) -> None:
        answer = (await front.post("/v1/embeddings", input="x", **fields)).json()
        params = front.engine.submits[0].pooling
        assert params is not None and (params.dimensions, params.use_activation) == wanted
        assert len(answer["data"][0]["embedding"]) == (wanted[0] or 8)

    run(tokenizer, test)


BAD = [
    ({}, "input"),
    ({"input": None}, "input"),
    ({"input": []}, "input"),
    ({"input": ""}, "input"),
    ({"input": [""]}, "input"),
    ({"input": ["a", 1]}, "input"),
    ({"input": [[1], "a"]}, "input"),
    ({"input": [-1]}, "input"),
    ({"input": [10**6]}, "input"),
    ({"input": [[1]] * 2049}, "input"),
    ({"input": [1] * 129}, "input"),
    ({"input": {"a": 1}}, "input"),
    ({"input": "a", "dimensions": 9}, "dimensions"),
    ({"input": "a", "dimensions": 0}, "dimensions"),
    ({"input": "a", "dimensions": -1}, "dimensions"),
    ({"input": "a", "dimensions": 2**40}, "dimensions"),
    ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ({"input": "a", "truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
    ({"input": "a", "truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
    ({"input": "a", "truncate_prompt_tokens": 129}, "truncate_prompt_tokens"),
    ({"input": "a", "embed_dtype": "int8"}, "embed_dtype"),
    ({"input": "a", "endianness": "big"}, "endianness"),
    ({"input": "a", "messages": [{}]}, "messages"),
    ({"input": "a", "priority": 2**31}, "priority"),
    ({"input": "a", "request_id": "a b"}, "request_id"),
]


@pytest.mark.parametrize(("body", "param"), BAD)
def test_bad_requests_name_their_field(
    tokenizer: Tokenizer, body: dict[str, Any], param: str
) -> None:
    async def test(front: Frontend) -> None:
        answer = await front.client.post("/v1/embeddings", content=json.dumps(body))
        assert answer.status_code == 400
        assert str(answer.json()["error"]["param"]).startswith(param), answer.text
        assert front.engine.submits == []

    bare = Tokenizer(tokenizer._backend, None, {}, add_bos_token=False)
    bare._bos_id = tokenizer._bos_id
    run(bare, test)


def test_a_prompt_may_fill_the_context(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        assert (await front.post("/v1/embeddings", input=[1] * 128)).status_code == 200
        cut = await front.post("/v1/embeddings", input=[1] * 500, truncate_prompt_tokens=-1)
        assert cut.json()["usage"]["prompt_tokens"] == 128

    run(tokenizer, test)


def test_truncation_keeps_the_special_tokens(words: Tokenizer) -> None:
    text = " ".join("abcdefghij")

    async def test(front: Frontend) -> None:
        await front.post("/v1/embeddings", input=text, truncate_prompt_tokens=6)
        await front.post(
            "/v1/embeddings", input=text, truncate_prompt_tokens=6, truncation_side="left"
        )
        await front.post("/v1/embeddings", input=text, add_special_tokens=False)
        kept, end, bare = prompts(front)
        assert kept == [CLS, 0, 1, 2, 3, SEP]
        assert end == [CLS, 6, 7, 8, 9, SEP]
        assert bare == list(range(10))

    run(words, test)


def test_raw_pooling(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        answer = (await front.post("/pooling", input=["a", "b"], task="embed")).json()
        assert [one["object"] for one in answer["data"]] == ["pooling"] * 2
        assert answer["data"][1]["data"] == fake_vector(tokenizer.encode("b"))
        wrong = await front.post("/pooling", input="a", task="classify")
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "task")

    run(tokenizer, test)


def test_classes(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.vector_of = lambda ids, submit: [0.25, 0.5 if ids[-1] == 7 else 0.0, 0.25]
        answer = (await front.post("/classify", input=[[5, 7], [8]])).json()
        assert [one["label"] for one in answer["data"]] == ["fair", "bad"]
        assert answer["data"][0]["probs"] == [0.25, 0.5, 0.25]
        assert answer["data"][0]["num_classes"] == 3
        await front.post("/classify", input="x", activation=False)
        params = front.engine.submits[-1].pooling
        assert params is not None and params.use_activation is False
        pooled = (await front.post("/pooling", input=[5, 7])).json()
        assert pooled["data"][0]["data"] == [0.25, 0.5, 0.25]

    run(tokenizer, test, THREE)


def by_letters(ids: Sequence[int], submit: Submit) -> list[float]:
    """The more letters both texts have in common, the higher."""
    assert submit.pooling is not None
    start = submit.pooling.second_start
    first, second = set(ids[1 : start - 1]), set(ids[start:-1])
    return [len(first & second) / 32]


@pytest.mark.parametrize("path", SCORES)
def test_scores_of_a_cross_encoder(words: Tokenizer, path: str) -> None:
    async def test(front: Frontend) -> None:
        front.engine.vector_of = by_letters
        many = await front.post(path, text_1="a b c", text_2=["a", "x y", "c b a"])
        assert [one["score"] for one in many.json()["data"]] == [1 / 32, 0, 3 / 32]
        assert prompts(front)[1] == [CLS, 0, 1, 2, SEP, 23, 24, SEP]
        assert many.json()["usage"]["prompt_tokens"] == 7 + 8 + 9
        one = await front.post(path, text_1="a", text_2="a")
        assert [entry["score"] for entry in one.json()["data"]] == [1 / 32]
        each = await front.post(path, queries=["a", "b"], documents=["b", "b"])
        assert [entry["score"] for entry in each.json()["data"]] == [0, 1 / 32]

    run(words, test, SCORER)


def test_scores_of_embeddings_are_cosines(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        answer = (await front.post("/score", text_1="a", text_2=["a", "bb"])).json()
        assert prompts(front) == [tokenizer.encode(text) for text in ("a", "a", "bb")]
        one, same, other = (np.array(fake_vector(ids), np.float32) for ids in prompts(front))
        assert [entry["score"] for entry in answer["data"]] == [
            pytest.approx(cosine(one, same)),
            pytest.approx(cosine(one, other)),
        ]
        assert answer["data"][0]["score"] == pytest.approx(1.0)

    run(tokenizer, test)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"text_1": "a"}, "text_2"),
        ({"text_2": "a"}, "text_1"),
        ({"text_1": [], "text_2": "a"}, "text_1"),
        ({"text_1": ["a", "b"], "text_2": "a"}, "text_2"),
        ({"text_1": ["a", "b"], "text_2": ["a"] * 3}, "text_2"),
        ({"text_1": "a", "text_2": ["a"] * 2049}, "text_2"),
        ({"text_1": "a", "text_2": "b", "queries": "c"}, "queries"),
        ({"text_1": "a", "text_2": "b " * 300}, "text_2"),
        ({"text_1": "a", "text_2": "b", "truncate_prompt_tokens": 3}, "truncate_prompt_tokens"),
    ],
)
def test_bad_pairs(words: Tokenizer, body: dict[str, Any], param: str) -> None:
    async def test(front: Frontend) -> None:
        answer = await front.post("/score", **body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert front.engine.submits == []

    run(words, test, SCORER)


@pytest.mark.parametrize("path", RERANKS)
def test_rankings(words: Tokenizer, path: str) -> None:
    documents: list[Any] = ["x", "a b c", {"text": "c"}, "a b"]

    async def test(front: Frontend) -> None:
        front.engine.vector_of = by_letters
        answer = (await front.post(path, query="a b c", documents=documents)).json()
        assert [one["index"] for one in answer["results"]] == [1, 3, 2, 0]
        scores = [one["relevance_score"] for one in answer["results"]]
        assert scores == [3 / 32, 2 / 32, 1 / 32, 0]
        assert [one["document"]["text"] for one in answer["results"]][:3] == ["a b c", "a b", "c"]
        best = await front.post(
            path, query="a b c", documents=documents, top_n=2, return_documents=False
        )
        assert best.json()["results"] == [
            {"index": 1, "relevance_score": 3 / 32},
            {"index": 3, "relevance_score": 2 / 32},
        ]
        more = await front.post(path, query="a", documents=documents, top_n=100)
        assert len(more.json()["results"]) == 4
        bad: list[dict[str, Any]] = [
            {"documents": []},
            {"documents": ["a"] * 2049},
            {"top_n": -1},
        ]
        for wrong in bad:
            body = {"query": "a", "documents": ["b"], **wrong}
            assert (await front.post(path, **body)).status_code == 400

    run(words, test, SCORER)


def test_a_model_of_several_classes_gives_no_scores(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        for path, body in (
            ("/score", {"text_1": "a", "text_2": "b"}),
            ("/rerank", {"query": "a", "documents": ["b"]}),
            ("/v1/embeddings", {"input": "a"}),
        ):
            answer = await front.post(path, **body)
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "unsupported_by_model"

    run(tokenizer, test, THREE)


GENERATION: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
    ("/v1/completions", {"prompt": "Hi"}),
    ("/v1/responses", {"input": "Hi"}),
    ("/v1/messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}),
]


def test_a_server_that_pools_says_so_and_is_well(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        for path, body in GENERATION:
            answer = await front.post(path, **body)
            assert answer.status_code == 400
            assert "generates no text" in answer.json()["error"]["message"]
        assert (await front.client.get("/health")).status_code == 200
        assert (await front.client.get("/v1/models")).json()["data"][0]["id"] == "tiny"
        assert (await front.post("/tokenize", prompt="Hi")).status_code == 200

    run(tokenizer, test)


def test_a_server_that_generates_says_so(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        for path in ("/v1/embeddings", "/pooling", "/classify", *SCORES, *RERANKS):
            answer = await front.post(path, input="a")
            assert answer.status_code == 400
            assert "--runner pooling" in answer.json()["error"]["message"]
        assert front.engine.submits == []

    run(tokenizer, test, pooling=None)


@pytest.mark.parametrize(
    ("code", "status"),
    [("overloaded", 503), ("numerical_error", 500), ("internal_error", 500), ("too_long", 400)],
)
def test_what_the_engine_could_not_do(tokenizer: Tokenizer, code: str, status: int) -> None:
    async def test(front: Frontend) -> None:
        front.engine.error = (code, None)
        answer = await front.post("/v1/embeddings", input=["a", "b"])
        assert answer.status_code == status

    run(tokenizer, test)


def test_a_client_that_leaves_ends_its_work(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        call = RawCall(front.app, "/v1/embeddings", b'{"input": ["a", "b"]}')
        await front.settle()
        assert len(front.engine.submits) == 2
        call.disconnect()
        await call.task
        await front.settle()
        asked = {submit.request_id for submit in front.engine.submits}
        assert set(front.engine.aborted) == asked
        assert front.engine_client.num_live == 0

    run(tokenizer, test)


def test_unknown_fields_are_named(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        answer = await front.post("/v1/embeddings", input="a", user="me", fancy=1, crazy=2)
        assert answer.headers["x-octavo-ignored-fields"] == "fancy, crazy"

    run(tokenizer, test)


@pytest.mark.parametrize("first", range(6))
@pytest.mark.parametrize("second", range(6))
def test_the_longer_text_of_a_pair_is_cut_first(first: int, second: int) -> None:
    """One token at a time, as transformers' longest_first."""
    for room in range(first + second + 2):
        one, other = first, second
        while one + other > room:
            one, other = (one - 1, other) if one > other else (one, other - 1)
        assert shares(first, second, room) == (one, other)
