"""What grammars' masks cost is found out before they come near a batch."""

from __future__ import annotations

import pytest
from grammar_hostile import COSTLY
from grammar_schemas import ALL
from grammar_walks import PADDED, padded_vocabulary

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


@pytest.mark.parametrize("text", ["a{100000}", "b?a{100000}", "a{99999999}"])
def test_what_costs_much_at_each_token_does_not(text: str) -> None:
    with pytest.raises(GrammarError, match="too complex"):
        check(GrammarSpec("regex", text))
