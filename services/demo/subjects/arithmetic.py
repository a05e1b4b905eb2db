"""Sums, differences and comparisons of numbers of one or two digits."""

from __future__ import annotations

from random import Random

from octavo.services.demo.dialogue import Exchange
from octavo.services.demo.heldout import held_out
from octavo.services.demo.wording import phrase

SUMS = (
    "What is {a} + {b}?",
    "What's {a} + {b}?",
    "{a} + {b}",
    "{a}+{b}",
    "{a} + {b} = ?",
    "{a} + {b} =",
    "What is {a} plus {b}?",
    "{a} plus {b}?",
    "How much is {a} plus {b}?",
    "How much is {a} + {b}?",
    "Add {a} and {b}.",
    "Add {b} to {a}.",
    "What is the sum of {a} and {b}?",
    "Calculate {a} + {b}.",
    "Compute {a} + {b}.",
    "I have {a} apples and get {b} more. How many apples do I have?",
)
DIFFERENCES = (
    "What is {a} - {b}?",
    "What's {a} - {b}?",
    "{a} - {b}",
    "{a}-{b}",
    "{a} - {b} = ?",
    "{a} - {b} =",
    "What is {a} minus {b}?",
    "{a} minus {b}?",
    "How much is {a} minus {b}?",
    "How much is {a} - {b}?",
    "Subtract {b} from {a}.",
    "Take {b} away from {a}.",
    "Calculate {a} - {b}.",
    "Compute {a} - {b}.",
)
SHARING = "I have {a} apples and give away {b}. How many apples do I have?"
COMPARISONS = (
    ("Which is larger, {a} or {b}?", max, "{c} is larger."),
    ("Which is bigger, {a} or {b}?", max, "{c} is bigger."),
    ("What is the larger number, {a} or {b}?", max, "{c} is larger."),
    ("Which number is greater: {a} or {b}?", max, "{c} is greater."),
    ("Which is smaller, {a} or {b}?", min, "{c} is smaller."),
    ("What is the smaller number, {a} or {b}?", min, "{c} is smaller."),
    ("Which number is less: {a} or {b}?", min, "{c} is less."),
)


def pair_held_out(a: int, b: int) -> bool:
    """Whether the exam keeps {a, b}, in both orders and both operations; small pairs are taught."""
    return max(a, b) > 9 and held_out("pair", min(a, b), max(a, b))


def pair(rng: Random, *, exam: bool = False) -> tuple[int, int]:
    """Two numbers of 0..99 on the wanted side of the split."""
    while True:
        top = 9 if not exam and rng.random() < 0.08 else 99
        a, b = rng.randint(0, top), rng.randint(0, top)
        if pair_held_out(a, b) == exam:
            return a, b


def addition(rng: Random, *, exam: bool = False) -> Exchange:
    a, b = pair(rng, exam=exam)
    user = phrase(rng, rng.choice(SUMS).format(a=a, b=b))
    return Exchange(user, f"{a} + {b} = {a + b}.", str(a + b))


def subtraction(rng: Random, *, exam: bool = False) -> Exchange:
    """Two of three have a result of at least zero."""
    a, b = pair(rng, exam=exam)
    if a < b and rng.random() < 0.34:
        a, b = b, a
    cores = (*DIFFERENCES, SHARING) if a >= b else DIFFERENCES
    user = phrase(rng, rng.choice(cores).format(a=a, b=b))
    return Exchange(user, f"{a} - {b} = {a - b}.", str(a - b))


def comparison(rng: Random, *, exam: bool = False) -> Exchange:
    a, b = pair(rng, exam=exam)
    while a == b:
        a, b = pair(rng, exam=exam)
    core, pick, answer = rng.choice(COMPARISONS)
    c = pick(a, b)
    return Exchange(phrase(rng, core.format(a=a, b=b)), answer.format(c=c), str(c))
