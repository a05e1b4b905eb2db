"""Tiny random checkpoints of every family and rope variant, with a byte-level tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

VOCAB = 320
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": None,
    "tie_word_embeddings": False,
}


def _rope(kind: str, **parameters: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **parameters}}


def _longrope(rotary_dim: int) -> dict[str, Any]:
    half = rotary_dim // 2
    return {
        **_rope(
            "longrope",
            short_factor=[1.0 + 0.01 * i for i in range(half)],
            long_factor=[1.0 + 0.5 * i for i in range(half)],
            original_max_position_embeddings=64,
            partial_rotary_factor=0.75,
        ),
        "original_max_position_embeddings": 64,
    }


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama_llama3": ("Llama", {"rope_parameters": LLAMA3}),
    "llama_linear": ("Llama", _rope("linear", factor=4.0)),
    "llama_dynamic": ("Llama", {**_rope("dynamic", factor=4.0), "max_position_embeddings": 64}),
    "llama_yarn": ("Llama", {"rope_parameters": YARN}),
    "llama_biased": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama_odd_heads": ("Llama", {"head_dim": 24}),
    "llama_tied": ("Llama", {"tie_word_embeddings": True}),
    "mistral": ("Mistral", {"sliding_window": 11}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen2_window": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3", {"head_dim": 32}),
    "phi3": ("Phi3", {"sliding_window": None}),
    "phi3_longrope": ("Phi3", {**_longrope(12), "sliding_window": None}),
}


def make_checkpoint(name: str, path: Path, **sizes: Any) -> Any:
    """Save the variant's random float32 model and tokenizer to `path`; return the model."""
    family, changes = VARIANTS[name]
    torch.manual_seed(1234)
    config = getattr(transformers, f"{family}Config")(**{**SIZES, **changes, **sizes})
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{family}ForCausalLM")(config).float().eval()
    with torch.no_grad():  # biases and norms start at 0 and 1, which would hide their misuse
        for key, parameter in model.named_parameters():
            if key.endswith("bias") or "norm" in key:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(path)
    save_tokenizer(path)
    return model


def byte_ids() -> dict[int, int]:
    """byte -> id of the tokenizer below: in the order of the characters that stand for bytes."""
    backend = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    shown = {byte: backend.pre_tokenize_str(chr(byte))[0][0] for byte in range(128)}
    return {byte: alphabet.index(char) for byte, char in shown.items()}


def save_tokenizer(path: Path) -> None:
    """Bytes are ids 0..255 in order, then two special tokens, then fillers up to the vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {char: index for index, char in enumerate(alphabet)}
    vocab |= {f"<filler{index}>": index for index in range(258, VOCAB)}
    vocab |= {"<s>": 256, "</s>": 257}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(path / "tokenizer.json"))
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": template + "{% if add_generation_prompt %}assistant: {% endif %}",
    }
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
