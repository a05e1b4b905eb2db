"""Embeddings, classes and rankings through real processes, as transformers computes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import torch
from octavo_server import Server, serving
from pooling_checkpoints import make_pooling, save_sentence_files

from octavo.llm import LLM, PoolingParams, SamplingParams
from octavo.shared.errors import ContextTooLong, InvalidRequest
from octavo.shared.text.tokenizer import Tokenizer

TEXTS = ["a b c", "the same", "the same", "x" * 90, "z"]


class Embedder:
    """A decoder without its head, served, and what transformers makes of texts with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._model = make_pooling("Qwen3Model", path)
        save_sentence_files(path, "mean_tokens", normalize=True)
        self._tokenizer = Tokenizer.load(path)

    def vectors(self, texts: list[str]) -> Any:
        found = []
        for text in texts:
            ids = torch.tensor([self._tokenizer.encode(text)])
            with torch.no_grad():
                mean = self._model(ids).last_hidden_state[0].mean(dim=0)
            found.append(torch.nn.functional.normalize(mean, dim=0).numpy())
        return np.stack(found)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return Embedder(tmp_path_factory.mktemp("embedder"))


@pytest.fixture(scope="module")
def embedding_server(embedder: Embedder) -> Iterator[Server]:
    with serving(
        str(embedder.path), "--device", "cpu", "--max-num-batched-tokens", "64"
    ) as running:
        yield running


def test_the_openai_sdk_embeds(embedder: Embedder, embedding_server: Server) -> None:
    """It asks for base64 unless told otherwise."""
    with openai.OpenAI(base_url=f"{embedding_server.url}/v1", api_key="x", max_retries=0) as sdk:
        name = sdk.models.list().data[0].id
        answer = sdk.embeddings.create(model=name, input=TEXTS)
        ours = np.array([one.embedding for one in answer.data])
        np.testing.assert_allclose(ours, embedder.vectors(TEXTS), atol=1e-4)
        assert [one.index for one in answer.data] == list(range(len(TEXTS)))
        assert answer.usage.prompt_tokens == sum(map(len, TEXTS))
        plain = sdk.embeddings.create(model=name, input=TEXTS, encoding_format="float")
        np.testing.assert_allclose([one.embedding for one in plain.data], ours, atol=1e-6)
        short = sdk.embeddings.create(model=name, input=TEXTS, dimensions=7)
        cut = embedder.vectors(TEXTS)[:, :7]
        cut = cut / np.linalg.norm(cut, axis=1, keepdims=True)
        np.testing.assert_allclose([one.embedding for one in short.data], cut, atol=1e-4)
        with pytest.raises(openai.BadRequestError, match="generates no text"):
            sdk.chat.completions.create(model=name, messages=[{"role": "user", "content": "Hi"}])
        with pytest.raises(openai.BadRequestError, match="dimensions"):
            sdk.embeddings.create(model=name, input="a", dimensions=65)


def test_as_many_inputs_as_a_request_may_have(embedding_server: Server) -> None:
    inputs = [[1 + i % 200] * (1 + i % 7) for i in range(2048)]
    answer = embedding_server.post("/v1/embeddings", {"input": inputs})
    assert [one["index"] for one in answer["data"]] == list(range(2048))
    embedding_server.wait_idle()


def test_embeddings_rank(embedder: Embedder, embedding_server: Server) -> None:
    body = {"query": "the same", "documents": TEXTS}
    results = embedding_server.post("/rerank", body)["results"]
    vectors = embedder.vectors(TEXTS)
    cosines = vectors @ vectors[1]
    assert {results[0]["index"], results[1]["index"]} == {1, 2}
    scores = [one["relevance_score"] for one in results]
    assert scores == sorted(scores, reverse=True)
    for one in results:
        assert one["relevance_score"] == pytest.approx(cosines[one["index"]], abs=1e-4)


def test_a_generation_server_embeds_nothing(server: Server) -> None:
    status, data = server.request("POST", "/v1/embeddings", {"input": "a"})
    assert status == 400 and b"--runner pooling" in data


def test_the_library_embeds(embedder: Embedder) -> None:
    with LLM(str(embedder.path), device="cpu") as llm:
        outputs = llm.embed(TEXTS, use_tqdm=False)
        ours = [output.outputs.embedding for output in outputs]
        np.testing.assert_allclose(ours, embedder.vectors(TEXTS), atol=1e-4)
        assert [output.request_id for output in outputs] == ["0", "1", "2", "3", "4"]
        raw = llm.encode("a b c", PoolingParams(dimensions=3, use_activation=False), use_tqdm=False)
        assert raw[0].outputs.data.shape == (3,)
        scores = llm.score("the same", TEXTS, use_tqdm=False)
        assert scores[1].outputs.score == pytest.approx(1.0, abs=1e-5)
        with pytest.raises(InvalidRequest, match="generates none"):
            llm.generate("a", SamplingParams(max_tokens=1), use_tqdm=False)
        with pytest.raises(InvalidRequest, match="task is embed"):
            llm.classify("a", use_tqdm=False)
        with pytest.raises(InvalidRequest, match="dimensions"):
            llm.embed("a", pooling_params=PoolingParams(dimensions=65), use_tqdm=False)
        with pytest.raises(InvalidRequest, match="PoolingParams"):
            llm.embed("a", pooling_params=PoolingParams(dimensions="7"), use_tqdm=False)  # type: ignore[arg-type]
        with pytest.raises(ContextTooLong):
            llm.embed([[1] * 257], use_tqdm=False)
        assert len(llm.embed([[1] * 256], use_tqdm=False)) == 1


def test_a_cross_encoder_scores(tmp_path: Path) -> None:
    """Through a server and through the library; the second text is marked as such."""
    model = make_pooling("BertForSequenceClassification", tmp_path, num_labels=1)
    tokenizer = Tokenizer.load(tmp_path)
    documents = ["a b", "x", "q r s t u v w x y z"]
    expected = []
    for document in documents:
        text = tokenizer.encode_text("a b c", document)
        types = [int(i >= text.second_start) for i in range(len(text.ids))]
        with torch.no_grad():
            given = model(torch.tensor([text.ids]), token_type_ids=torch.tensor([types]))
        expected.append(float(given.logits.sigmoid()))
    with serving(str(tmp_path), "--device", "cpu") as server:
        answer = server.post("/v1/rerank", {"query": "a b c", "documents": documents, "top_n": 2})
        order = sorted(range(3), key=lambda i: -expected[i])[:2]
        assert [one["index"] for one in answer["results"]] == order
        scores = [one["relevance_score"] for one in answer["results"]]
        assert scores == pytest.approx([expected[i] for i in order], abs=1e-4)
        classes = server.post("/classify", {"input": "a b"})
        assert classes["data"][0]["num_classes"] == 1
        server.wait_idle()
    with LLM(str(tmp_path), device="cpu") as llm:
        ours = llm.score("a b c", documents, use_tqdm=False)
        assert [one.outputs.score for one in ours] == pytest.approx(expected, abs=1e-4)
        [both] = llm.classify("a b", use_tqdm=False)
        assert both.outputs.probs == pytest.approx(classes["data"][0]["probs"])
