"""Whether an answer holds what is expected, and accuracy by subject."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from octavo.services.demo.dialogue import Question
from octavo.services.demo.tooling import read_calls

NUMBER = re.compile(r"-?\d+")


def last_number(answer: str, expected: str) -> bool:
    """The last whole number in the answer, sign and all."""
    found = NUMBER.findall(answer)
    return bool(found) and found[-1] == expected


def sequence(answer: str, expected: str) -> bool:
    """All numbers of the answer, in order."""
    return NUMBER.findall(answer) == NUMBER.findall(expected)


def phrase(answer: str, expected: str) -> bool:
    """The expected words anywhere, as whole words, in any case."""
    return (
        re.search(rf"(?<![\w-]){re.escape(expected)}(?![\w-])", answer, re.IGNORECASE) is not None
    )


def json_object(answer: str, expected: str) -> bool:
    """Valid JSON, equal to the expected object."""
    try:
        return bool(json.loads(answer) == json.loads(expected))
    except ValueError:
        return False


def calls(answer: str, expected: str) -> bool:
    """The expected calls, in order, with equal arguments."""
    return read_calls(answer) == read_calls(expected)


def same(answer: str, expected: str) -> bool:
    return answer.strip() == expected


GRADERS: Mapping[str, Callable[[str, str], bool]] = {
    "number": last_number,
    "sequence": sequence,
    "phrase": phrase,
    "json": json_object,
    "calls": calls,
    "same": same,
}


def right(question: Question, answer: str) -> bool:
    return GRADERS[question.grader](answer, question.expected)


class Score:
    """Right answers and questions by subject."""

    def __init__(self, results: Iterable[tuple[Question, bool]]) -> None:
        self.counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for question, good in results:
            self.counts[question.subject][0] += good
            self.counts[question.subject][1] += 1

    @property
    def accuracy(self) -> float:
        """Share of right answers over all questions; 0 of none."""
        return _share(*map(sum, zip(*self.counts.values(), strict=True))) if self.counts else 0.0

    def by_subject(self) -> dict[str, float]:
        return {subject: _share(*count) for subject, count in self.counts.items()}

    def table(self) -> str:
        rows = [
            f"{subject:<16} {good:>4} / {asked:<4} {100 * _share(good, asked):6.1f} %"
            for subject, (good, asked) in self.counts.items()
        ]
        return "\n".join([*rows, f"{'total':<16} {100 * self.accuracy:20.1f} %"])


def _share(good: int, asked: int) -> float:
    return good / asked if asked else 0.0
