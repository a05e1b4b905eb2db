"""From a request's fields to a GrammarSpec, and the errors on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from grammar_schemas import ALL, COMPILED_AND_REFUSED, INT, REFUSED, closed, obj
from grammar_walks import new_matcher
from hypothesis import given
from hypothesis import strategies as st

from octavo.shared.errors import InvalidRequest
from octavo.shared.grammar.compiling import GrammarError
from octavo.shared.grammar.json_schema import (
    MAX_DEPTH,
    MAX_VALUES,
    SOME_WHITESPACE,
    JsonOptions,
    schema_spec,
)
from octavo.shared.grammar.request import request_grammar
from octavo.shared.grammar.spec import MAX_TEXT_BYTES, GrammarSpec

ASKED = "structured_outputs"


def outputs(**fields: Any) -> GrammarSpec:
    spec = request_grammar(None, fields)
    assert spec is not None
    return spec


def refusal(
    response_format: dict[str, Any] | None = None, structured: dict[str, Any] | None = None
) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        request_grammar(response_format, structured)
    assert caught.value.status == 400
    return caught.value


def schema_of(spec: GrammarSpec) -> Any:
    assert spec.kind == "json_schema"
    return {k: v for k, v in json.loads(spec.text).items() if k != "x-guidance"}


def options_of(spec: GrammarSpec) -> Any:
    return json.loads(spec.text)["x-guidance"]


def test_nothing_is_asked() -> None:
    assert request_grammar(None, None) is None
    assert request_grammar({"type": "text"}, None) is None


def test_json_object() -> None:
    by_format = request_grammar({"type": "json_object"}, None)
    assert by_format == outputs(json_object=True)
    assert schema_of(outputs(json_object=True)) == {"type": "object"}


@pytest.mark.parametrize("strict", [True, False, None])
def test_json_schema(strict: bool | None) -> None:
    schema = closed({"b": INT, "a": INT}, "b")
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": strict}}
    spec = request_grammar(form, None)
    assert spec == outputs(json=schema) == outputs(json=json.dumps(schema))
    assert list(schema_of(spec)["properties"]) == ["b", "a"], "properties keep their order"


def test_specs_are_values() -> None:
    assert len({outputs(regex="a"), outputs(regex="a"), outputs(regex="b")}) == 2


@pytest.mark.parametrize(
    ("form", "param", "words"),
    [
        ({"type": "xml"}, "response_format", "xml"),
        ({}, "response_format", "type"),
        ({"type": "json_schema"}, "response_format.json_schema", "missing"),
        (
            {"type": "json_schema", "json_schema": {"name": "n"}},
            "response_format.json_schema.schema",
            "missing",
        ),
        ({"type": "json_schema", "json_schema": {"schema": 3}}, "response_format", "schema"),
        (
            {"type": "json_schema", "json_schema": {"schema": {"not": {}}}},
            "response_format.json_schema.schema",
            "`not` is not supported",
        ),
        ({"type": "structural_tag"}, "response_format", "structures"),
    ],
)
def test_bad_response_formats(form: dict[str, Any], param: str, words: str) -> None:
    error = refusal(form)
    assert error.param == param
    assert words in error.message


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({}, ASKED, "got none"),
        ({"json_object": False}, ASKED, "got none"),
        ({"regex": "a", "choice": ["b"]}, ASKED, "got regex, choice"),
        ({"regexp": "a"}, ASKED, "regexp"),
        ({"regex": 3}, ASKED, "regex"),
        ({"regex": ""}, f"{ASKED}.regex", "empty"),
        ({"regex": "a\0"}, f"{ASKED}.regex", "NUL"),
        ({"regex": "x" * (MAX_TEXT_BYTES + 1)}, f"{ASKED}.regex", "at most"),
        ({"grammar": " \n"}, f"{ASKED}.grammar", "empty"),
        ({"choice": []}, f"{ASKED}.choice", "1 to"),
        ({"choice": ["a", ""]}, f"{ASKED}.choice", "empty"),
        ({"choice": ["a"] * 5000}, f"{ASKED}.choice", "1 to"),
        ({"json": "{"}, f"{ASKED}.json", "not a JSON object"),
        ({"json": "[]"}, f"{ASKED}.json", "not a JSON object"),
        ({"json": "[" * 100_000}, f"{ASKED}.json", "not a JSON object"),
        ({"json": "x" * (MAX_TEXT_BYTES + 1)}, f"{ASKED}.json", "at most"),
        ({"json": {}, "whitespace_pattern": ""}, f"{ASKED}.whitespace_pattern", "1 to"),
        (
            {"json": {}, "whitespace_pattern": " ", "disable_any_whitespace": True},
            f"{ASKED}.whitespace_pattern",
            "exclude",
        ),
        ({"regex": "a", "disable_any_whitespace": True}, ASKED, "not of regex"),
        ({"structural_tag": "{}"}, f"{ASKED}.structural_tag", "structures"),
        ({"structural_tag": "tag"}, f"{ASKED}.structural_tag", "JSON"),
    ],
)
def test_bad_structured_outputs(fields: dict[str, Any], param: str, words: str) -> None:
    error = refusal(None, fields)
    assert error.param == param
    assert words in error.message


def test_both_fields_exclude_each_other() -> None:
    error = refusal({"type": "json_object"}, {"regex": "a"})
    assert error.param == ASKED
    assert request_grammar({"type": "text"}, {"regex": "a"}) == GrammarSpec("regex", "a")


def test_whitespace_options() -> None:
    assert options_of(outputs(json={})) == {"whitespace_pattern": SOME_WHITESPACE}
    none = outputs(json={}, disable_any_whitespace=True)
    assert options_of(none) == {"whitespace_flexible": False}
    pattern = outputs(json_object=True, whitespace_pattern=" ?")
    assert options_of(pattern) == {"whitespace_pattern": " ?"}


def test_objects_can_be_closed() -> None:
    inner = obj({"x": INT})
    schema = obj({"a": inner, "b": obj({"y": INT}, additionalProperties=INT), "c": {}})
    given = json.dumps(schema)
    got = schema_of(outputs(json=schema, disable_additional_properties=True))
    assert got["additionalProperties"] is False
    assert got["properties"]["a"]["additionalProperties"] is False
    assert got["properties"]["b"]["additionalProperties"] == INT
    assert "additionalProperties" not in got["properties"]["c"]
    assert json.dumps(schema) == given, "the request's own value stays as it is"


@pytest.mark.parametrize("name", REFUSED)
def test_schemas_that_cannot_be_enforced(name: str) -> None:
    schema, words = REFUSED[name]
    with pytest.raises(InvalidRequest, match="field") as caught:
        schema_spec(schema, "field")
    assert words in caught.value.message
    assert caught.value.param == "field"


@pytest.mark.parametrize("name", COMPILED_AND_REFUSED)
def test_schemas_that_do_not_compile(name: str) -> None:
    schema, words = COMPILED_AND_REFUSED[name]
    with pytest.raises(GrammarError) as caught:
        new_matcher(schema_spec(schema, "field"))
    assert words in str(caught.value)
    assert "<" not in str(caught.value), "no dump of anybody's state"


def test_deep_and_big_schemas() -> None:
    deep: Any = INT
    for _ in range(MAX_DEPTH):
        deep = {"items": deep}
    with pytest.raises(InvalidRequest, match="too deep"):
        schema_spec(deep, "field")
    with pytest.raises(InvalidRequest, match="too big"):
        schema_spec({"enum": list(range(MAX_VALUES))}, "field")
    with pytest.raises(InvalidRequest, match="at most"):
        schema_spec({"const": "x" * MAX_TEXT_BYTES}, "field")
    with pytest.raises(InvalidRequest, match="not finite"):
        schema_spec({"const": float("inf")}, "field")


def test_there_are_enough_schemas() -> None:
    assert len({json.dumps(schema) for schema in ALL.values()}) >= 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "items", "properties", "anyOf", "$ref", "pattern", "minimum"])
            | st.text(max_size=5),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@given(JSON)
def test_any_json_is_a_spec_or_an_error(value: Any) -> None:
    try:
        spec = schema_spec(value, "field", JsonOptions(close_objects=True))
    except InvalidRequest as error:
        assert error.param == "field"
    else:
        assert spec.kind == "json_schema"


@given(st.dictionaries(st.sampled_from(["type", "json_schema", "structures", "triggers"]), JSON))
def test_any_response_format_is_a_spec_or_an_error(value: dict[str, Any]) -> None:
    try:
        request_grammar(value, None)
    except InvalidRequest as error:
        assert error.param is not None
