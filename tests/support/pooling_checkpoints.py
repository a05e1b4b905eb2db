"""Tiny random checkpoints that pool: embedders and classifiers, decoders and encoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from model_checkpoints import SIZES, VOCAB, save_tokenizer
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers import models as tokenizer_models

ENCODER_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 130,
    "initializer_range": 0.2,
}
DECODERS = ("Llama", "Mistral", "Qwen2", "Qwen3")
CLS, SEP, PAD = 256, 257, 258


def make_pooling(architecture: str, path: Path, **config: Any) -> Any:
    """Save a random float32 model of this architecture and its tokenizer; return the model."""
    torch.manual_seed(4321)
    family = architecture.removesuffix("Model").removesuffix("ForSequenceClassification")
    decodes = family.removesuffix("ForCausalLM") in DECODERS
    sizes: dict[str, Any] = SIZES if decodes else ENCODER_SIZES
    if decodes and architecture.endswith("ForSequenceClassification"):
        sizes = sizes | {"pad_token_id": PAD}
    kind = getattr(transformers, f"{family.removesuffix('ForCausalLM')}Config")
    settings = kind(**{**sizes, **config})
    settings._attn_implementation = "eager"
    model = getattr(transformers, architecture)(settings).float().eval()
    with torch.no_grad():  # biases and norms start at 0 and 1, which would hide their misuse
        for key, parameter in model.named_parameters():
            if key.endswith("bias") or "norm" in key.lower():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(path)
    if decodes:
        save_tokenizer(path)
    else:
        save_word_tokenizer(path)
    return model


def save_word_tokenizer(path: Path) -> None:
    """As BERT's: words of letters, [CLS] text [SEP], a second text marked by its type."""
    vocab = {f"w{index}": index for index in range(VOCAB)}
    for index, letter in enumerate("abcdefghijklmnopqrstuvwxyz"):
        del vocab[f"w{index}"]
        vocab[letter] = index
    for name, index in (("[CLS]", CLS), ("[SEP]", SEP), ("[PAD]", PAD), ("[UNK]", 259)):
        del vocab[f"w{index}"]
        vocab[name] = index
    tokenizer = Tokenizer(tokenizer_models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    tokenizer.add_special_tokens(["[CLS]", "[SEP]", "[PAD]", "[UNK]"])
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))


def save_sentence_files(path: Path, mode: str, *, normalize: bool) -> None:
    """What sentence-transformers writes; `mode`: cls_token, mean_tokens or lasttoken."""
    kinds = ["Transformer", "Pooling"] + ["Normalize"] * normalize
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": f"{index}_{kind}" if index else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(kinds)
    ]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "1_Pooling").mkdir(exist_ok=True)
    names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken")
    flags: dict[str, Any] = {f"pooling_mode_{name}": name == mode for name in names}
    flags = {"word_embedding_dimension": 64, **flags, "include_prompt": True}
    (path / "1_Pooling" / "config.json").write_text(json.dumps(flags))
