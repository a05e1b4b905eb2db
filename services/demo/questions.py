"""The exam's questions: what the corpus holds out, by subject, fixed by a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from random import Random

from octavo.services.demo.corpus import exchange
from octavo.services.demo.dialogue import Exchange, Question, message
from octavo.services.demo.relations import Relation
from octavo.services.demo.subjects import (
    arithmetic,
    counting,
    extraction,
    smalltalk,
    stories,
    tool_use,
)
from octavo.services.demo.subjects.dates import DATES
from octavo.services.demo.subjects.facts import FACTS
from octavo.services.demo.subjects.spelling import SPELLING
from octavo.services.demo.systems import STYLES
from octavo.services.demo.tooling import called


def questions(seed: int = 0) -> list[Question]:
    """About 580 questions, shuffled, so that any first part is a fair sample."""
    rng = Random(f"exam {seed}")
    asked = [
        *_asked(rng, 80, "sums", "number", arithmetic.addition),
        *_asked(rng, 60, "differences", "number", arithmetic.subtraction),
        *_asked(rng, 20, "comparisons", "number", arithmetic.comparison),
        *_asked(rng, 40, "counting", "sequence", counting.exchange),
        *_sample(rng, 50, _kept("spelling", SPELLING, rng)),
        *_sample(rng, 50, _kept("dates", DATES, rng)),
        *_sample(rng, 80, _kept("facts", FACTS, rng)),
        *_sample(rng, 40, _fresh("facts, reworded", FACTS)),
        *_asked(rng, 20, "stories", "json", _story),
        *(_memory(rng) for _ in range(20)),
        *_asked(rng, 40, "extraction", "json", extraction.exchange),
        *(_tool_call(rng) for _ in range(60)),
        *(_tool_result(rng) for _ in range(20)),
    ]
    rng.shuffle(asked)
    return asked


def _asked(
    rng: Random, count: int, subject: str, grader: str, make: Callable[..., Exchange]
) -> Iterator[Question]:
    """Questions from a generator that knows the exam's side; one in five has a system prompt."""
    for _ in range(count):
        made = make(rng, exam=True)
        system = [message("system", rng.choice(STYLES["plain"]))] if rng.random() < 0.2 else []
        asked = (*system, message("user", made.user))
        yield Question(subject, asked, made.short or made.answer, grader)


def _story(rng: Random, *, exam: bool) -> Exchange:
    return stories.in_json(rng, exam=exam)


def _kept(subject: str, relations: Sequence[Relation], rng: Random) -> Iterator[Question]:
    return chain.from_iterable(each.kept_questions(subject, rng) for each in relations)


def _fresh(subject: str, relations: Sequence[Relation]) -> Iterator[Question]:
    return chain.from_iterable(each.fresh_questions(subject) for each in relations)


def _sample(rng: Random, count: int, pool: Iterator[Question]) -> list[Question]:
    return rng.sample(list(pool), count)


def _tool_call(rng: Random) -> Question:
    """The right calls, or in words that there is no tool."""
    task = tool_use.task(rng, exam=True)
    asked, tools = (message("user", task.user),), tuple(task.tools)
    if not task.calls:
        return Question("tools", asked, tool_use.NO_TOOL, "phrase", tools)
    return Question("tools", asked, called(task.calls), "calls", tools)


def _tool_result(rng: Random) -> Question:
    """The answer that a tool's result gives."""
    task = tool_use.task(rng, exam=True)
    while not task.calls:
        task = tool_use.task(rng, exam=True)
    *before, answer = (message("user", task.user), *task.said)
    expected = answer["content"]
    return Question("tool results", tuple(before), expected, "same", tuple(task.tools))


def _memory(rng: Random) -> Question:
    """Someone says a name, talks of something else, and asks for the name."""
    name = rng.choice(smalltalk.NAMES)
    last = smalltalk.name_asked(rng, name)
    said = []
    for turn in (smalltalk.name_given(rng, name), exchange(rng), exchange(rng)):
        said += [message("user", turn.user), message("assistant", turn.answer)]
    return Question("memory", (*said, message("user", last.user)), name, "phrase")
