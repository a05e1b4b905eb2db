"""What grammars' masks cost is found out before they come near a batch."""

from __future__ import annotations

import pytest
from grammar_hostile import COSTLY
from grammar_schemas import ALL
from grammar_walks import PADDED, padded_vocabulary

from octavo.services.grammar import rehearsal
from octavo.services.grammar.rehearsal import rehearse
from octavo.shared.grammar.compiling import GrammarError, compile_grammar, translate
from octavo.shared.grammar.json_schema import schema_spec
from octavo.shared.grammar.request import request_grammar
from octavo.shared.grammar.spec import GrammarSpec

CHEAP = ["[a-z]{1,100000}", r"[\w ]{1,20000}", "(?:[a-z]+ ){1,5000}", "(a|b){5000}c", "x"]


def check(spec: GrammarSpec) -> None:
    rehearse(compile_grammar(translate(spec), padded_vocabulary()), PADDED)


def test_usual_ones_pass() -> None:
    for schema in ALL.values():
        check(schema_spec(schema, "field"))
    for text in CHEAP:
        check(GrammarSpec("regex", text))
    for fields in COSTLY.values():
        if (spec := request_grammar(None, fields)) is not None:
            check(spec)


def test_what_costs_much_at_each_token_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "LONG_MASK", 2e-3)  # of 15 and more
    with pytest.raises(GrammarError, match="hold up everybody"):
        check(GrammarSpec("regex", "a{100000}"))


def test_what_runs_into_a_limit_does_not() -> None:
    with pytest.raises(GrammarError, match="too many expressions"):
        check(GrammarSpec("regex", "a{99999999}"))
