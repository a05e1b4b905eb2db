"""What the two implementations are asked: short texts of several kinds, as token ids."""

from __future__ import annotations

from typing import Any

TEXTS = (
    "The capital of France is",
    "Once upon a time, in a village between two rivers, there lived a clockmaker who",
    "def fibonacci(n: int) -> int:\n    if n < 2:\n        return n\n",
    "1 2 3 5 8 13 21 34 55",
    "Q: What is the difference between a process and a thread?\nA: A process has its own memory. "
    "Threads of one process share it, which makes switching between them cheaper and mistakes "
    "more costly. Q: And what is a coroutine?\nA:",
    "Gestern war das Wetter schön. 今日は天気がいいです。 Il fait beau aujourd'hui.",
)


def encode(tokenizer: str, texts: tuple[str, ...], most: int) -> list[list[int]]:
    """Ids of each text, at least one and at most `most`."""
    from transformers import AutoTokenizer

    loaded: Any = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    found = [list(loaded.encode(text))[:most] for text in texts]
    return [ids or [0] for ids in found]
