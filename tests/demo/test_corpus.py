from __future__ import annotations

import json
import re
from collections import Counter
from random import Random

import pytest

from octavo.services.demo import relations
from octavo.services.demo.corpus import dialogue, documents, exchange
from octavo.services.demo.dialogue import END_OF_TEXT, IM_END, message, prompt, segments
from octavo.services.demo.grading import right
from octavo.services.demo.questions import questions
from octavo.services.demo.subjects import stories
from octavo.services.demo.subjects.arithmetic import pair_held_out
from octavo.services.demo.subjects.dates import DATES
from octavo.services.demo.subjects.facts import FACTS
from octavo.services.demo.subjects.spelling import SPELLING

ARITHMETIC = re.compile(r"(\d+) ([+-]) (\d+) = (-?\d+)\.")


def test_corpus_is_fixed_by_its_seed() -> None:
    assert list(documents(50, 3)) == list(documents(50, 3))
    assert list(documents(50, 3)) != list(documents(50, 4))


def test_sums_are_right_and_keep_to_their_side() -> None:
    rng = Random(0)
    seen = [match for _ in range(6000) for match in ARITHMETIC.findall(exchange(rng).answer)]
    assert len(seen) > 2000
    for a, sign, b, result in seen:
        assert int(result) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
        assert not pair_held_out(int(a), int(b))


def test_running_totals_keep_to_their_side() -> None:
    rng = Random(1)
    for _ in range(3000):
        for said in dialogue(rng):
            for a, _, b, _ in ARITHMETIC.findall(said["content"]):
                assert not pair_held_out(int(a), int(b))


def test_relations_never_train_what_the_exam_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relations, "phrase", lambda rng, text: text)
    rng = Random(2)
    for relation in (*FACTS, *DATES, *SPELLING):
        kept = {asked for _, asked in relation.kept()}
        kept |= {question.messages[0]["content"] for question in relation.fresh_questions("any")}
        assert not kept & {relation.exchange(rng).user for _ in range(500)}


def test_only_the_assistant_is_trained() -> None:
    said = [message("system", "S"), message("user", "U"), message("assistant", "A")]
    parts = segments(said)
    assert "".join(part.text for part in parts if part.trained) == "A" + IM_END
    whole = "".join(part.text for part in parts)
    assert whole == prompt(said[:2]) + "A" + IM_END + "\n" + END_OF_TEXT


def test_questions_are_many_fixed_and_answerable() -> None:
    asked = questions(0)
    assert asked == questions(0) and asked != questions(1)
    assert 500 <= len(asked) <= 600
    assert min(Counter(question.subject for question in asked).values()) >= 20
    for question in asked:
        assert right(question, question.expected)
        assert question.messages[-1]["role"] in ("user", "tool")


def test_stories_in_json_are_json() -> None:
    told = json.loads(stories.in_json(Random(5)).answer)
    assert told == json.loads(stories.story(told["hero"]).as_json())
