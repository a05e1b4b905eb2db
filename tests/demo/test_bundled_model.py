from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from octavo.services.demo import dialogue, tooling

FOLDER = Path(dialogue.__file__).parent / "model"


@pytest.mark.parametrize(
    ("asked", "answer"),
    [("What is 47 + 38?", "85"), ("What is the capital of France?", "Paris")],
)
def test_answers_and_stops_in_transformers(asked: str, answer: str) -> None:
    model: Any = transformers.LlamaForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    prompt: Any = tokenizer.apply_chat_template(
        [dialogue.message("user", asked)], add_generation_prompt=True, return_tensors="pt"
    )
    ids = model.generate(**prompt, max_new_tokens=24, do_sample=False)[0].tolist()
    said = ids[prompt["input_ids"].shape[1] :]
    assert answer in tokenizer.decode(said)
    assert said[-1] == tokenizer.convert_tokens_to_ids(dialogue.IM_END)


WEATHER = tooling.tool("get_weather", "Get the weather in a city.", {"city": "string"})


@pytest.mark.parametrize(
    ("asked", "tools", "answer"),
    [
        ("What is the weather in Rome?", [WEATHER],
         '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'),
        ("Extract the name and age as JSON: Ada is 36 years old and lives in Rome.", None,
         '{"name": "Ada", "age": 36}'),
    ],
)  # fmt: skip
def test_calls_and_extracts(asked: str, tools: Any, answer: str) -> None:
    model: Any = transformers.LlamaForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    prompt: Any = tokenizer.apply_chat_template(
        [dialogue.message("user", asked)], tools=tools, add_generation_prompt=True,
        return_tensors="pt",
    )  # fmt: skip
    assert tokenizer.decode(prompt["input_ids"][0]) == dialogue.prompt(
        [dialogue.message("user", asked)], tools or ()
    )
    ids = model.generate(**prompt, max_new_tokens=60, do_sample=False)[0].tolist()
    said = tokenizer.decode(ids[prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert said == answer


def test_fits_the_package() -> None:
    assert sum(file.stat().st_size for file in FOLDER.glob("*.safetensors")) <= 12_000_000
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["tie_word_embeddings"] and config["architectures"] == ["LlamaForCausalLM"]
    assert config["eos_token_id"] == [2, 0]
