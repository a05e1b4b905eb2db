from __future__ import annotations

import pytest

from octavo.services.demo.dialogue import Question
from octavo.services.demo.grading import GRADERS, Score


@pytest.mark.parametrize(
    ("grader", "answer", "expected", "good"),
    [
        ("number", "47 + 38 = 85.", "85", True),
        ("number", "12 - 47 = -35.", "-35", True),
        ("number", "12 - 47 = 35.", "-35", False),
        ("number", "850", "85", False),
        ("number", "", "85", False),
        ("sequence", "1, 2, 3.", "1, 2, 3", True),
        ("sequence", "1, 2, 3, 4.", "1, 2, 3", False),
        ("phrase", "The capital of France is paris.", "Paris", True),
        ("phrase", "comparison", "Paris", False),
        ("phrase", "cats is spelled c-a-t-s.", "c-a-t", False),
        ("json", '{"a": 1, "b": 2}', '{"b": 2, "a": 1}', True),
        ("json", '{"a": 1', '{"a": 1}', False),
    ],
)
def test_graders(grader: str, answer: str, expected: str, good: bool) -> None:
    assert GRADERS[grader](answer, expected) is good


def test_score_by_subject() -> None:
    sums, facts = (Question(subject, (), "", "phrase") for subject in ("sums", "facts"))
    score = Score([(sums, True), (sums, False), (facts, True), (facts, True)])
    assert score.accuracy == 0.75
    assert score.by_subject() == {"sums": 0.5, "facts": 1.0}
    assert "75.0 %" in score.table()
    assert Score([]).accuracy == 0.0
