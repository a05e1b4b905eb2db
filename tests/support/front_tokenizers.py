"""Tiny tokenizers, made on the spot: byte-level BPE and SentencePiece-like with byte fallback."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from octavo.shared.text.tokenizer import Tokenizer

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'function' %}{{ raise_exception('no functions here') }}{% endif %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if shout %}LOUD {% endif %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|bos|>", "<|im_start|>", "<|im_end|>"]
BOS, IM_START, EOS = range(3)
_CORPUS = [
    "Hello world, hello there! The quick brown fox.",
    "stop STOP one two three",
    "äöü 你好 😀",
]


def byte_level_folder(folder: Path, chat_template: str | None = CHAT_TEMPLATE) -> Path:
    """Write a byte-level BPE of 320 tokens at most; ids 0 to 2 are SPECIAL."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_CORPUS * 3, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", BOS)]
    )
    config = {
        "bos_token": "<|bos|>",
        "eos_token": {"__type": "AddedToken", "content": "<|im_end|>"},
    }
    if chat_template is not None:
        config["chat_template"] = chat_template
    return _save(backend, folder, config)


def byte_fallback_folder(folder: Path) -> Path:
    """Write a vocabulary like Llama 2's: U+2581 for spaces, lone bytes, one space dropped."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", "▁Hello", "▁world", "Hello", "a", "b", "ä"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    backend = tokenizers.Tokenizer(
        models.BPE(vocab, [], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    backend.add_special_tokens(["<s>", "</s>"])
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return _save(backend, folder, {"bos_token": "<s>", "eos_token": "</s>"})


def _save(backend: tokenizers.Tokenizer, folder: Path, config: Mapping[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def load_byte_level(folder: Path, chat_template: str | None = CHAT_TEMPLATE) -> Tokenizer:
    return Tokenizer.load(byte_level_folder(folder, chat_template))
