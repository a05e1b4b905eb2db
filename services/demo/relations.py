"""A relation: a table from things to answers, and many ways to ask for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from octavo.services.demo.dialogue import Exchange, Question, message
from octavo.services.demo.heldout import held_out
from octavo.services.demo.wording import phrase


@dataclass(frozen=True, slots=True)
class Relation:
    """`table` maps x to y; `cores` ask for y with "{x}", `answer` says both.

    Of all pairs (core, x) a tenth is never trained; the wording `fresh` is never trained at all.
    """

    name: str
    cores: tuple[str, ...]
    fresh: str
    answer: str
    table: Mapping[str, str]

    def exchange(self, rng: Random) -> Exchange:
        """One training example."""
        x = rng.choice(list(self.table))
        cores = [core for core in self.cores if not held_out(self.name, core, x)]
        return self.about(x, phrase(rng, rng.choice(cores or self.cores[:1]).format(x=x)))

    def about(self, x: str, user: str) -> Exchange:
        answer = self.answer.format(x=x, y=self.table[x])
        return Exchange(user, answer[0].upper() + answer[1:], self.table[x])

    def kept(self) -> Iterator[tuple[str, str]]:
        """Every (x, wording) that training never shows; `cores[0]` stays if all else is kept."""
        for x in self.table:
            asked = [core for core in self.cores if held_out(self.name, core, x)]
            spare = asked[1:] if len(asked) == len(self.cores) else asked
            yield from ((x, core.format(x=x)) for core in spare)

    def question(self, subject: str, x: str, asked: str) -> Question:
        return Question(subject, (message("user", asked),), self.table[x], "phrase")

    def kept_questions(self, subject: str, rng: Random) -> Iterator[Question]:
        for x, asked in self.kept():
            yield self.question(subject, x, phrase(rng, asked))

    def fresh_questions(self, subject: str) -> Iterator[Question]:
        for x in self.table:
            yield self.question(subject, x, self.fresh.format(x=x))


def any_exchange(relations: tuple[Relation, ...], rng: Random) -> Exchange:
    """An example of one relation, large tables more often."""
    weights = [len(relation.table) ** 0.7 for relation in relations]
    return rng.choices(relations, weights)[0].exchange(rng)
