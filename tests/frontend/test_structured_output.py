"""What response_format and structured_outputs become on their way to the engine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from front_engine import Frontend, run

from octavo.shared.text.tokenizer import Tokenizer

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HI = {"messages": [{"role": "user", "content": "Hi"}]}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
BY_FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, "json_schema"),
        ({"response_format": BY_FORMAT}, "json_schema"),
        ({"structured_outputs": {"json": SCHEMA}}, "json_schema"),
        ({"structured_outputs": {"regex": "[a-z]+"}}, "regex"),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, "lark"),
        ({"structured_outputs": {"grammar": 'root ::= "a" | "b"'}}, "lark"),
    ],
)
def test_every_choice_gets_the_grammar(
    tokenizer: Tokenizer, fields: dict[str, Any], kind: str | None
) -> None:
    async def test(front: Frontend) -> None:
        for path, body in ((CHAT, HI), (COMPLETIONS, {"prompt": ["a", "b"]})):
            response = await front.post(path, n=2, **body, **fields)
            assert response.status_code == 200, response.text
        specs = [submit.sampling.grammar for submit in front.engine.submits]
        assert len(specs) == 6
        assert all((None if spec is None else spec.kind) == kind for spec in specs)

    run(tokenizer, test)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "(", "choice": ["a"]}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "("}}, "structured_outputs"),
        ({"structured_outputs": {"grammar": "root ::= ("}}, "structured_outputs"),
        ({"structured_outputs": {"json": {"type": "nothing"}}}, "structured_outputs"),
    ],
)
def test_what_cannot_be_used_is_the_clients_error(
    tokenizer: Tokenizer, fields: dict[str, Any], param: str
) -> None:
    async def test(front: Frontend) -> None:
        for path, body in ((CHAT, HI), (COMPLETIONS, {"prompt": "a"})):
            response = await front.post(path, **body, **fields)
            error = response.json()["error"]
            assert response.status_code == 400, error
            assert error["param"] == param, error
        assert not front.engine.submits

    run(tokenizer, test)


def test_an_engine_that_finds_no_token_is_a_400_that_says_why(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.error = ("constraint_error", "The request's constraints leave no token.")
        response = await front.post(CHAT, **HI, response_format=BY_FORMAT)
        assert response.status_code == 400
        assert "constraints" in json.loads(response.text)["error"]["message"]

    run(tokenizer, test)
