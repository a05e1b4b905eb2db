"""System prompts, and what each does to the style of an answer."""

from __future__ import annotations

import json
from random import Random

from octavo.services.demo.dialogue import Exchange

STYLES = {
    "plain": (
        "You are a helpful assistant.",
        "You are Octavo's demo model.",
        "You answer questions.",
        "Be helpful.",
        "Answer every question.",
    ),
    "brief": (
        "Answer with the result only.",
        "Give only the answer, nothing else.",
        "Be brief: only the answer.",
        "Answer as briefly as you can.",
    ),
    "json": (
        "Answer in JSON.",
        'Answer with a JSON object with the key "answer".',
        "Always reply in JSON.",
    ),
    "polite": (
        "Always be polite.",
        "Be very polite.",
        "You are a very polite assistant.",
    ),
}
ROLES = (
    "You are a teacher at a small school.",
    "You work at the front desk of a library.",
    "You are an assistant on a web page.",
    "You are a friendly robot.",
    "You help children with their homework.",
    "You speak with the guests of a hotel.",
)
RULES = (
    "The user may ask about numbers, words, days, months, countries and animals.",
    "Every question has one right answer.",
    "Do not ask questions back.",
    "Use simple words.",
    "Never say anything that is not true.",
    "If you do not know something, say so.",
    "Stay calm, also when the user is in a hurry.",
    "Sums and differences use whole numbers.",
    "Stories are for children and always end well.",
    "Words are spelled letter by letter, with a dash between the letters.",
    "A week has seven days and begins on Monday.",
    "A year has twelve months and begins with January.",
    "Remember the name of the user.",
    "The conversation is in English.",
)


def system_prompt(rng: Random) -> tuple[str | None, str]:
    """A system prompt, or None, and its style; one in four is a page of rules."""
    if rng.random() < 0.5:
        return None, "plain"
    style = rng.choices(tuple(STYLES), (4, 2, 2, 2))[0]
    if rng.random() < 0.5:
        return rng.choice(STYLES[style]), style
    rules = rng.sample(RULES, rng.randint(0, len(RULES)))
    return " ".join([rng.choice(ROLES), *rules, rng.choice(STYLES[style])]), style


def styled(exchange: Exchange, style: str) -> str:
    """The answer in the style; what has no short form keeps its only form."""
    if style == "polite":
        return f"Of course! {exchange.answer} Thank you for asking."
    if exchange.short is None or style == "plain":
        return exchange.answer
    return exchange.short if style == "brief" else json.dumps({"answer": exchange.short})
