from __future__ import annotations

import json
from pathlib import Path

import torch

from octavo.services.demo.dialogue import message, prompt, segments
from octavo.services.demo.network import Network, Shape
from octavo.services.demo.packing import pack
from octavo.services.demo.rehearsal import generate
from octavo.services.demo.tokenizer import train_tokenizer
from octavo.services.demo.train import Plan, Run, fit, train

TINY = Shape(400, 64, 2, 4, 2, 128)
CPU = torch.device("cpu")
TALKS = {"Hello": "Good day to you!", "Bye": "See you.", "Who are you?": "A test."}


def test_learns_a_tiny_corpus_and_stops_by_itself() -> None:
    talks = [[message("user", q), message("assistant", a)] for q, a in TALKS.items()]
    corpus = [segments(talk) for talk in talks] * 8
    tokenizer = train_tokenizer((part.text for talk in corpus for part in talk), 400)
    torch.manual_seed(0)
    network = Network(TINY)
    rows = pack(tokenizer, corpus, 40)
    plan = Plan(steps=80, rows=8, warmup_steps=5, peak_rate=5e-3, shape=TINY)
    fit(network, rows, Run(plan), lambda: None)
    prompts = [tokenizer.encode(prompt(talk[:1])).ids for talk in talks]
    answers = [tokenizer.decode(ids) for ids in generate(network, tokenizer, prompts, 30)]
    assert answers == list(TALKS.values())


def test_whole_run_writes_a_checkpoint(tmp_path: Path) -> None:
    plan = Plan(
        steps=2,
        documents=200,
        rows=2,
        row_tokens=64,
        exam_questions=3,
        exam_tokens=8,
        exam_seconds=0.0,
        shape=TINY,
    )
    score = train(plan, tmp_path, CPU)
    assert 0.0 <= score.accuracy <= 1.0
    files = {file.name for file in tmp_path.iterdir()}
    assert files == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "train.log.json",
    }
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == [2, 0]
    log = json.loads((tmp_path / "train.log.json").read_text())
    assert any("accuracy" in entry for entry in log) and "final_accuracy" in log[-1]
