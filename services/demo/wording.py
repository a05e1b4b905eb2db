"""Ways to put the same question: openings, closings, careless typing."""

from __future__ import annotations

from random import Random

OPENINGS = (
    "Please tell me: ",
    "Quick question: ",
    "Hi! ",
    "Hello! ",
    "Tell me, ",
    "I have a question. ",
    "Can you help me? ",
    "One more thing: ",
    "OK. ",
    "Do you know this? ",
)
CLOSINGS = (" Thanks!", " Please.", " Thank you.", " I need it for school.")


def phrase(rng: Random, text: str) -> str:
    """`text` as somebody may type it; the meaning stays."""
    if rng.random() < 0.35:
        text = rng.choice(OPENINGS) + text
    if rng.random() < 0.15:
        text += rng.choice(CLOSINGS)
    return careless(rng, text)


def careless(rng: Random, text: str) -> str:
    """One time in seven without the last mark, one in eight in lower case."""
    if rng.random() < 0.14:
        text = text.rstrip("?.!")
    return text.lower() if rng.random() < 0.12 else text
