from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer

from octavo.services.demo.corpus import documents
from octavo.services.demo.dialogue import IM_END, message, prompt, segments
from octavo.services.demo.packing import IGNORED, pack
from octavo.services.demo.tokenizer import save_tokenizer, train_tokenizer

TALK = [
    message("system", "Be brief."),
    message("user", "What is 47 + 38?"),
    message("assistant", "47 + 38 = 85."),
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = [segment.text for document in documents(300, 0) for segment in document]
    return train_tokenizer(texts, 1000)


def test_round_trip_of_any_text(tokenizer: Tokenizer) -> None:
    for text in ("Hello there!", "47+38", "  two  spaces\n\n", "Zürich 🌍 日本"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_digits_are_split(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("1234 567").tokens
    assert [token for token in tokens if any(c.isdigit() for c in token)] == list("1234567")


def test_template_writes_what_training_saw(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path, 2048)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = theirs.apply_chat_template(TALK[:2], add_generation_prompt=True, tokenize=False)
    assert text == prompt(TALK[:2])
    trained = segments(TALK)
    pieces = [i for part in trained for i in tokenizer.encode(part.text).ids]
    whole = theirs.apply_chat_template(TALK, tokenize=False)
    assert pieces[:-1] == theirs(whole)["input_ids"]
    assert theirs.eos_token == IM_END


def test_rows_hold_whole_documents_and_mark_targets(tokenizer: Tokenizer) -> None:
    corpus = list(documents(40, 1))
    rows = pack(tokenizer, corpus, 512)
    assert rows.ids.shape[1] == 513
    ids, targets = rows.batch(torch.arange(len(rows.ids)))
    counted = targets != IGNORED
    assert torch.equal(targets[:, :-1][counted[:, :-1]], ids[:, 1:][counted[:, :-1]])
    said = "".join(part.text for document in corpus for part in document if part.trained)
    marked = tokenizer.decode(rows.ids[rows.trained].tolist(), skip_special_tokens=False)
    assert marked == said
