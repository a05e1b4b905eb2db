"""Constrained requests through the real scheduler and runner, two steps in flight."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from engine_harness import EOS_IDS, Answer, Harness
from model_checkpoints import VOCAB, byte_ids, make_checkpoint

from octavo.services.worker.constraints.constraint import Constraint
from octavo.services.worker.constraints.patience import Patience
from octavo.shared.grammar.spec import GrammarSpec, choice_spec
from octavo.shared.sampling import SamplingParams

EOS = EOS_IDS[0]
PROMPTS = [[(5 * at + 3 * row) % 256 for at in range(7 + row)] for row in range(6)]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6, "pattern": "^[a-z]*$"},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
COMPACT = SCHEMA | {"x-guidance": {"whitespace_flexible": False}}


Make = Callable[..., Harness]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    make_checkpoint("llama", path)
    return path


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def make(checkpoint: Path, request: pytest.FixtureRequest) -> Make:
    on_gpu = request.param == "cuda"
    return functools.partial(Harness, checkpoint, device=request.param, graphs=on_gpu)


def params(**fields: Any) -> SamplingParams:
    given: dict[str, Any] = {
        "temperature": 0.0,
        "max_tokens": 100,
        "eos_token_ids": [EOS],
        "seed": 5,
    } | fields
    return SamplingParams(**given)


def json_spec() -> GrammarSpec:
    return GrammarSpec("json_schema", json.dumps(COMPACT))


BYTES = {token_id: byte for byte, token_id in byte_ids().items()}


def text_of(answer: Answer) -> str:
    return "".join(chr(BYTES[i]) for i in answer.token_ids if i in BYTES)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_outputs_fit_their_schema_and_others_notice_nothing(make: Make, temperature: float) -> None:
    free = params(temperature=temperature, max_tokens=20)
    bound = params(temperature=temperature, grammar=json_spec())
    alone = make().generate(PROMPTS, [free] * 6)
    mixed = make().generate(PROMPTS, [free, bound] * 3)
    for index, answer in enumerate(mixed):
        if index % 2 == 0:
            assert answer.token_ids == alone[index].token_ids
            continue
        jsonschema.validate(json.loads(text_of(answer)), SCHEMA)
        assert answer.reason == "stop" and answer.token_ids[-1] == EOS


def test_a_preempted_request_goes_on_in_its_grammar(make: Make) -> None:
    spec = GrammarSpec("regex", "[a-f]{40}")
    given = [params(grammar=spec)] * 6
    expected = make().generate(PROMPTS, given)
    small = make(num_blocks=9)
    answers = small.generate(PROMPTS, given)
    assert small.num_preemptions() > 0
    assert [a.token_ids for a in answers] == [a.token_ids for a in expected]
    assert all(len(a.token_ids) == 41 for a in answers)


def test_chunked_prompts_and_a_second_use_of_a_slot(make: Make) -> None:
    harness = make(budget=8, max_num_seqs=2)
    specs = [choice_spec([f"{letter}{letter}" for letter in "abc"], "x"), json_spec(), None]
    given = [params(grammar=specs[row % 3], max_tokens=60) for row in range(6)]
    answers = harness.generate(PROMPTS, given)
    assert [text_of(answers[row]) in ("aa", "bb", "cc") for row in (0, 3)] == [True, True]
    for row in (1, 4):
        jsonschema.validate(json.loads(text_of(answers[row])), SCHEMA)
    assert answers[2].token_ids == make().generate([PROMPTS[2]], [given[2]])[0].token_ids


def test_neither_ignore_eos_nor_min_tokens_outlives_a_grammar(make: Make) -> None:
    harness = make()
    yes = params(grammar=choice_spec(["yes"], "x"), ignore_eos=True, min_tokens=50)
    more = params(grammar=GrammarSpec("regex", "[ab]*"), min_tokens=30)
    short, long = harness.generate(PROMPTS[:2], [yes, more])
    assert text_of(short) == "yes" and short.reason == "stop"
    assert len(long.token_ids) > 30 and set(text_of(long)) <= {"a", "b"}


def test_only_allowed_ids(make: Make) -> None:
    allowed = [7, 31, 32, 300]
    given = params(allowed_token_ids=allowed, temperature=2.0, max_tokens=40)
    [answer] = make().generate(PROMPTS[:1], [given])
    assert len(answer.token_ids) == 40 and len(set(answer.token_ids)) > 1
    assert set(answer.token_ids) <= set(allowed)


def test_bad_words_of_one_id_and_of_several(make: Make) -> None:
    harness = make()
    [free] = harness.generate(PROMPTS[:1], [params(max_tokens=30, ignore_eos=True)])
    first, *rest = free.token_ids
    pairs = list(zip(free.token_ids, rest, strict=False))
    banned = [[first], list(pairs[5])]
    [answer] = harness.generate(
        PROMPTS[:1], [params(max_tokens=30, ignore_eos=True, bad_words_ids=banned)]
    )
    assert first not in answer.token_ids
    assert pairs[5] not in list(zip(answer.token_ids, answer.token_ids[1:], strict=False))
    only = params(max_tokens=30, ignore_eos=True, bad_words_ids=[list(pairs[5])])
    [answer] = harness.generate(PROMPTS[:1], [only])
    assert answer.token_ids[:6] == free.token_ids[:6]
    assert answer.token_ids[6] != free.token_ids[6]


def test_a_grammar_begins_behind_the_reasoning(make: Make) -> None:
    end = [258, 259]
    given = params(grammar=choice_spec(["42"], "x"), reasoning_end_ids=end, thinking_token_budget=9)
    [answer] = make().generate(PROMPTS[:1], [given])
    assert answer.token_ids[9:11] == end and EOS not in answer.token_ids[:-1]
    assert text_of(Answer(answer.token_ids[11:])) == "42"
    assert answer.token_ids[-1] == EOS


def test_a_budget_alone_ends_the_reasoning_and_nothing_else(make: Make) -> None:
    given = params(reasoning_end_ids=[258], thinking_token_budget=4, max_tokens=20, ignore_eos=True)
    free = params(max_tokens=20, ignore_eos=True)
    bound, unbound = make().generate([PROMPTS[0]] * 2, [given, free])
    assert bound.token_ids[:5] == [*unbound.token_ids[:4], 258]
    assert len(bound.token_ids) == 20


def test_constraints_that_exclude_each_other_end_in_an_error(make: Make) -> None:
    bound = params(grammar=choice_spec(["yes"], "x"), allowed_token_ids=[1])
    free = params(max_tokens=12)
    stuck, other = make().generate(PROMPTS[:2], [bound, free])
    assert (stuck.reason, stuck.error) == ("error", "constraint_error")
    assert not stuck.token_ids and other.reason in ("stop", "length")


def test_a_grammar_that_does_not_compile_ends_its_request_alone(make: Make) -> None:
    bad, good = params(grammar=GrammarSpec("regex", "(")), params(grammar=json_spec())
    harness = make()
    for _ in range(2):
        broken, fine = harness.generate(PROMPTS[:2], [bad, good])
        assert (broken.reason, broken.error) == ("error", "internal_error")
        assert fine.reason == "stop"


def test_logprobs_are_of_the_unmasked_model(make: Make) -> None:
    given = params(grammar=choice_spec(["yes"], "x"), logprobs=1)
    [bound] = make().generate(PROMPTS[:1], [given])
    [free] = make().generate(PROMPTS[:1], [params(logprobs=1, max_tokens=1)])
    (own, _), best = bound.logprobs[0]
    assert best == free.logprobs[0][0] and own == bound.token_ids[0] != best[0]


def test_every_row_constrained(make: Make) -> None:
    given = [params(grammar=json_spec(), temperature=0.7, seed=row) for row in range(24)]
    answers = make().generate([PROMPTS[row % 6] for row in range(24)], given)
    for answer in answers:
        jsonschema.validate(json.loads(text_of(answer)), SCHEMA)
    assert max(max(answer.token_ids) for answer in answers) < VOCAB


@pytest.mark.parametrize("method", ["narrow", "accept"])
def test_a_constraint_that_raises_is_its_request_s_own(
    make: Make, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its third id; beside it another that is bound, and one that is free."""
    asked = [params(allowed_token_ids=ids, max_tokens=6) for ids in ([7, 8, 9], [7, 8], None)]
    alone = make().generate(PROMPTS[:3], asked)
    plain = getattr(Constraint, method)
    called: list[Constraint] = []

    def raises(self: Constraint, *args: Any) -> Any:
        called.append(self)
        if self is called[0] and called.count(self) > 2:
            raise ValueError("injected")
        return plain(self, *args)

    monkeypatch.setattr(Constraint, method, raises)
    mixed = make().generate(PROMPTS[:3], asked)
    assert [answer.error for answer in mixed] == ["constraint_error", None, None]
    assert mixed[0].token_ids == alone[0].token_ids[: len(mixed[0].token_ids)]
    assert [answer.token_ids for answer in mixed[1:]] == [one.token_ids for one in alone[1:]]


def test_who_holds_up_the_batch_at_each_token_is_ended(make: Make) -> None:
    """Should the grammar helper not have seen it coming. Alone it holds up nobody."""
    costly = params(grammar=GrammarSpec("regex", "a{100000}"), max_tokens=40)
    others = [params(grammar=json_spec()), params(max_tokens=60)]
    alone = make().generate(PROMPTS[1:3], others)
    harness = make(patience=Patience(ends=True))
    assert len(harness.generate(PROMPTS[:1], [costly])[0].token_ids) == 40
    ended, *mixed = harness.generate(PROMPTS[:3], [costly, *others])
    assert (ended.reason, ended.error) == ("error", "constraint_error")
    assert [one.token_ids for one in mixed] == [one.token_ids for one in alone]
