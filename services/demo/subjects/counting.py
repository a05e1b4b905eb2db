"""Counting from one number to another, up and down, and in steps."""

from __future__ import annotations

from random import Random

from octavo.services.demo.dialogue import Exchange
from octavo.services.demo.heldout import held_out
from octavo.services.demo.wording import phrase

CORES = (
    "Count from {a} to {b}.",
    "Count from {a} up to {b}.",
    "Please count from {a} to {b}.",
    "List the numbers from {a} to {b}.",
    "Write the numbers from {a} to {b}.",
    "Can you count from {a} to {b}?",
)
DOWN = ("Count down from {a} to {b}.", "Count backwards from {a} to {b}.")
STEPS = ("Count from {a} to {b} in steps of {s}.", "Count from {a} to {b} by {s}.")


def exchange(rng: Random, *, exam: bool = False) -> Exchange:
    """One example on the wanted side of the split; at most 26 numbers in the exam."""
    while True:
        first, last, step = _span(rng, long=not exam and rng.random() < 0.1)
        if held_out("count", first, last, step) == exam:
            break
    numbers = range(first, last + (1 if step > 0 else -1), step)
    answer = ", ".join(map(str, numbers))
    user = rng.choice(_cores(first, last, step)).format(a=first, b=last, s=abs(step))
    return Exchange(phrase(rng, user), answer + ".", answer)


def _cores(first: int, last: int, step: int) -> tuple[str, ...]:
    if abs(step) > 1:
        return STEPS
    return CORES if last >= first else (*DOWN, *DOWN, *CORES)


def _span(rng: Random, *, long: bool) -> tuple[int, int, int]:
    """First, last and step; always within 0..100."""
    kind = rng.random()
    if kind < 0.2:
        step, count = rng.choice((2, 5, 10)), rng.randint(3, 10)
        first = rng.randint(0, 100 - step * count)
        return first, first + step * count, step
    length = rng.randint(26, 60) if long else rng.randint(2, 24)
    first = 1 if rng.random() < 0.3 else rng.randint(0, 100 - length)
    last = first + length
    return (first, last, 1) if kind < 0.75 else (last, first, -1)
