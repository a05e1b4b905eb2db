"""The training corpus: dialogues over the closed world, and some raw text, fixed by a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from octavo.services.demo.dialogue import (
    END_OF_TEXT,
    Exchange,
    Message,
    Segment,
    message,
    segments,
)
from octavo.services.demo.relations import any_exchange
from octavo.services.demo.subjects import (
    arithmetic,
    counting,
    extraction,
    smalltalk,
    spelling,
    stories,
    tool_use,
)
from octavo.services.demo.subjects.dates import DATES
from octavo.services.demo.subjects.facts import CAPITALS, FACTS
from octavo.services.demo.systems import styled, system_prompt
from octavo.services.demo.wording import careless

SUBJECTS: tuple[tuple[float, Callable[[Random], Exchange]], ...] = (
    (0.22, arithmetic.addition),
    (0.22, arithmetic.subtraction),
    (0.05, arithmetic.comparison),
    (0.07, counting.exchange),
    (0.13, spelling.exchange),
    (0.11, lambda rng: any_exchange(DATES, rng)),
    (0.12, lambda rng: any_exchange(FACTS, rng)),
    (0.04, smalltalk.exchange),
    (0.04, stories.exchange),
    (0.09, extraction.exchange),
)
WEIGHTS = tuple(weight for weight, _ in SUBJECTS)
TURNS = (1, 2, 3, 4, 6)
TURN_WEIGHTS = (60, 20, 10, 6, 4)
RAW_SHARE = 0.03
TOOL_SHARE = 0.14


def documents(count: int, seed: int) -> Iterator[list[Segment]]:
    """`count` documents, each a list of segments that ends with the separator."""
    rng = Random(seed)
    for _ in range(count):
        yield _document(rng)


def _document(rng: Random) -> list[Segment]:
    kind = rng.random()
    if kind < RAW_SHARE:
        return _raw(rng)
    if kind < RAW_SHARE + TOOL_SHARE:
        return _with_tools(rng)
    return segments(dialogue(rng))


def _with_tools(rng: Random) -> list[Segment]:
    """One or two tasks, or something else, under one list of tools and perhaps a system prompt."""
    system, style = system_prompt(rng)
    task = tool_use.task(rng)
    said = [] if system is None or style != "plain" else [message("system", system)]
    if rng.random() < 0.15:
        said += _turns(smalltalk.exchange(rng))
    said += [message("user", task.user), *task.said]
    if rng.random() < 0.2:
        said += _turns(any_exchange(FACTS, rng))
    return segments(said, task.tools)


def _turns(exchange: Exchange) -> list[Message]:
    return [message("user", exchange.user), message("assistant", exchange.answer)]


def dialogue(rng: Random) -> list[Message]:
    """One dialogue of one to eight turns under one system prompt or none."""
    system, style = system_prompt(rng)
    said = [] if system is None else [message("system", system)]
    for exchange in _exchanges(rng):
        said.append(message("user", exchange.user))
        said.append(message("assistant", styled(exchange, style)))
    return said


def exchange(rng: Random) -> Exchange:
    """One question and answer of any subject."""
    return rng.choices(SUBJECTS, WEIGHTS)[0][1](rng)


def _exchanges(rng: Random) -> list[Exchange]:
    count = rng.choices(TURNS, TURN_WEIGHTS)[0]
    turns = [exchange(rng) for _ in range(count)]
    kind = rng.random()
    if kind < 0.04:
        name = rng.choice(smalltalk.NAMES)
        return [smalltalk.name_given(rng, name), *turns[1:], smalltalk.name_asked(rng, name)]
    if kind < 0.06:
        return turns[:-1] + capitals_in_a_row(rng)
    if kind < 0.10:
        return turns[:-1] + running_total(rng)
    return turns


def capitals_in_a_row(rng: Random) -> list[Exchange]:
    """The capital of one country, then "And of Italy?"."""
    capital = FACTS[0]
    following = rng.sample(tuple(CAPITALS), rng.randint(1, 3))
    asked = ("And of {x}?", "And {x}?", "And what about {x}?")
    later = [capital.about(x, careless(rng, rng.choice(asked).format(x=x))) for x in following]
    return [capital.exchange(rng), *later]


def running_total(rng: Random) -> list[Exchange]:
    """A sum, then "Now add 5." to its result."""
    turns = [arithmetic.addition(rng)]
    for _ in range(rng.randint(1, 3)):
        total, plus = int(turns[-1].short or 0), rng.randint(1, 20)
        if total > 99 or arithmetic.pair_held_out(total, plus):
            break
        asked = rng.choice(("Now add {n}.", "And plus {n}?", "Add {n} to that."))
        result = total + plus
        turns.append(Exchange(asked.format(n=plus), f"{total} + {plus} = {result}.", str(result)))
    return turns


def _raw(rng: Random) -> list[Segment]:
    """Text without roles, for /v1/completions: answers one after the other, or a story."""
    if rng.random() < 0.3:
        story = stories.story(rng.choice(stories.HEROES))
        text = story.long() if rng.random() < 0.5 else story.short()
    else:
        text = " ".join(exchange(rng).answer for _ in range(rng.randint(1, 4)))
    return [Segment(text + END_OF_TEXT, trained=True)]
