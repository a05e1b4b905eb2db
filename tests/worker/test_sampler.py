"""What the sampler does beyond choosing ids: log-probabilities, bias, bans, penalties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from engine_harness import Answer, Harness
from model_checkpoints import VOCAB, make_checkpoint

from octavo.shared.sampling import SamplingParams

PROMPT = [11, 3, 200, 45, 45, 9, 77, 130, 5, 61, 3, 18]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    path = tmp_path_factory.mktemp("llama")
    return path, make_checkpoint("llama", path)


def run(path: Path, budget: int = 512, **wanted: Any) -> Answer:
    params = SamplingParams(**{"temperature": 0.0, "max_tokens": 10, **wanted})
    return Harness(path, budget=budget, max_num_seqs=4).generate([PROMPT], [params])[0]


def exact_logprobs(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    return torch.as_tensor(logits.log_softmax(-1))


@pytest.mark.parametrize("budget", [5, 512])
def test_logprobs_are_the_raw_distribution_s(tiny: tuple[Path, Any], budget: int) -> None:
    path, model = tiny
    answer = run(path, budget, logprobs=3, temperature=1.3, top_k=5, seed=1, presence_penalty=1.0)
    exact = exact_logprobs(model, PROMPT + answer.token_ids)[len(PROMPT) - 1 :]
    for step, entry in enumerate(answer.logprobs):
        assert entry[0][0] == answer.token_ids[step]
        for token, logprob in entry:
            assert logprob == pytest.approx(float(exact[step, token]), abs=1e-3)
        assert [token for token, _ in entry[1:]] == exact[step].topk(3).indices.tolist()
    assert len(answer.logprobs) == 10


@pytest.mark.parametrize("budget", [5, 512])
def test_prompt_logprobs_cover_every_position(tiny: tuple[Path, Any], budget: int) -> None:
    path, model = tiny
    answer = run(path, budget, prompt_logprobs=2)
    exact = exact_logprobs(model, PROMPT)
    assert sorted(answer.prompt_logprobs) == list(range(1, len(PROMPT)))
    for position, entry in answer.prompt_logprobs.items():
        assert entry[0][0] == PROMPT[position]
        assert entry[0][1] == pytest.approx(float(exact[position - 1, PROMPT[position]]), abs=1e-3)
        assert len(entry) == 3


def test_stop_ids_are_banned_until_min_tokens(tiny: tuple[Path, Any]) -> None:
    path, _ = tiny
    free = run(path).token_ids
    stop = [free[2]]
    stopped = run(path, stop_token_ids=stop)
    assert stopped.token_ids == free[: free.index(stop[0]) + 1]
    assert stopped.reason == "stop"
    held = run(path, stop_token_ids=stop, min_tokens=6)
    assert stop[0] not in held.token_ids[:6]
    assert len(held.token_ids) >= 6


def test_logit_bias_forces_and_forbids(tiny: tuple[Path, Any]) -> None:
    path, _ = tiny
    assert run(path, logit_bias={123: 100.0}).token_ids == [123] * 10
    first = run(path).token_ids[0]
    assert first not in run(path, logit_bias={first: -100.0}).token_ids


@pytest.mark.parametrize("budget", [5, 512])
def test_penalties_follow_their_definition(tiny: tuple[Path, Any], budget: int) -> None:
    path, model = tiny
    penalties = {"presence_penalty": 0.7, "frequency_penalty": 0.4, "repetition_penalty": 1.3}
    answer = run(path, budget, max_tokens=24, **penalties)
    ids = list(PROMPT)
    for token in answer.token_ids:
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1].float()
        said = torch.zeros(VOCAB).index_fill(0, torch.tensor(ids), 1.0) > 0
        outputs = torch.bincount(
            torch.tensor(ids[len(PROMPT) :], dtype=torch.int64), minlength=VOCAB
        )
        logits = torch.where(said, torch.where(logits > 0, logits / 1.3, logits * 1.3), logits)
        logits = logits - 0.4 * outputs - 0.7 * (outputs > 0)
        assert token == int(logits.argmax())
        ids.append(token)


def test_the_largest_min_tokens_and_a_full_logit_bias(tiny: tuple[Path, Any]) -> None:
    path, _ = tiny
    bias = dict.fromkeys(range(100, VOCAB), -3.0)
    answer = run(path, logit_bias=bias, max_tokens=5, min_tokens=5, stop_token_ids=[3, 4])
    assert len(answer.token_ids) == 5
    assert not {3, 4} & set(answer.token_ids)
