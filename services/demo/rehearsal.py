"""The exam inside the training process: greedy answers in batches, without a server."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from octavo.services.demo.dialogue import END_OF_TEXT, IM_END, Question, prompt
from octavo.services.demo.grading import Score, right
from octavo.services.demo.network import Network, compute_dtype


def rehearse(
    network: Network, tokenizer: Tokenizer, questions: Sequence[Question], limit: int
) -> tuple[Score, list[tuple[Question, str]]]:
    """The score, and the questions with a wrong answer."""
    texts = [prompt(question.messages, question.tools) for question in questions]
    prompts = [encoded.ids for encoded in tokenizer.encode_batch(texts)]
    answers = [tokenizer.decode(ids) for ids in generate(network, tokenizer, prompts, limit)]
    graded = [(q, right(q, answer)) for q, answer in zip(questions, answers, strict=True)]
    wrong = [(q, text) for (q, good), text in zip(graded, answers, strict=True) if not good]
    return Score(graded), wrong


@torch.no_grad()
def generate(
    network: Network, tokenizer: Tokenizer, prompts: Sequence[list[int]], limit: int
) -> list[list[int]]:
    """Greedy ids after each prompt, up to and without the end token, at most `limit` each.

    There is no cache: each step runs all rows whole, which is quick enough for a small network.
    """
    device = network.model.norm.weight.device
    ends = torch.tensor([tokenizer.token_to_id(t) for t in (IM_END, END_OF_TEXT)], device=device)
    lengths = torch.tensor([len(ids) for ids in prompts], device=device)
    ids = torch.zeros(len(prompts), int(lengths.max()) + limit, dtype=torch.long, device=device)
    for row, tokens in enumerate(prompts):
        ids[row, : len(tokens)] = torch.tensor(tokens, device=device)
    live = torch.arange(len(prompts), device=device)
    starts = lengths.clone()
    for _ in range(limit):
        following = _next(network, ids[live, : int(lengths[live].max())], lengths[live])
        live_now = ~torch.isin(following, ends)
        live, following = live[live_now], following[live_now]
        if not len(live):
            break
        ids[live, lengths[live]] = following
        lengths[live] += 1
    return [ids[i, int(starts[i]) : int(lengths[i])].tolist() for i in range(len(prompts))]


def _next(network: Network, ids: Tensor, lengths: Tensor) -> Tensor:
    hidden = network(ids, compute_dtype(ids.device))
    last = hidden[torch.arange(len(ids), device=ids.device), lengths - 1]
    return network.logits(last).argmax(dim=-1)
