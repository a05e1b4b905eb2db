"""From a request's fields to a GrammarSpec: `response_format` and `structured_outputs`.

Both constrain always; `strict` says no more than the schema does, so it changes nothing. A model
may not be asked for two things at once.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from octavo.shared.errors import InvalidRequest
from octavo.shared.grammar.json_schema import ANY_WHITESPACE, JsonOptions, schema_spec
from octavo.shared.grammar.spec import GrammarSpec, choice_spec, decode_object, make_spec
from octavo.shared.grammar.structural_tag import tag_spec

MAX_WHITESPACE_BYTES = 256
T = TypeVar("T")


class JsonSchemaFormat(msgspec.Struct, kw_only=True):
    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | bool | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, kw_only=True):
    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: JsonSchemaFormat | None = None


class StructuredOutputs(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """vLLM's parameters, of which exactly one of the first six is set."""

    json: str | dict[str, Any] | bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: str | dict[str, Any] | None = None
    disable_any_whitespace: bool | None = None
    disable_additional_properties: bool | None = None
    whitespace_pattern: str | None = None


CONSTRAINTS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")


def request_grammar(
    response_format: dict[str, Any] | None, structured_outputs: dict[str, Any] | None
) -> GrammarSpec | None:
    """What a request asks for; None: nothing. Raises InvalidRequest, naming the field."""
    by_format = None if response_format is None else response_format_spec(response_format)
    if structured_outputs is None:
        return by_format
    if by_format is not None:
        raise InvalidRequest(
            "response_format and structured_outputs cannot both constrain the output.",
            param="structured_outputs",
        )
    asked = _convert(structured_outputs, StructuredOutputs, "structured_outputs")
    return structured_outputs_spec(asked)


def response_format_spec(given: dict[str, Any]) -> GrammarSpec | None:
    """None for type `text`. Raises InvalidRequest."""
    name = "response_format"
    form = _convert(given, ResponseFormat, name)
    match form.type:
        case "text":
            return None
        case "json_object":
            return schema_spec({"type": "object"}, name)
        case "structural_tag":
            return tag_spec(
                {key: value for key, value in given.items() if key != "type"}, name, ANY_WHITESPACE
            )
    if form.json_schema is None:
        raise InvalidRequest(f"{name}.json_schema is missing.", param=f"{name}.json_schema")
    param = f"{name}.json_schema.schema"
    if form.json_schema.schema is None:
        raise InvalidRequest(f"{param} is missing.", param=param)
    return schema_spec(form.json_schema.schema, param)


def structured_outputs_spec(asked: StructuredOutputs) -> GrammarSpec:
    """Raises InvalidRequest."""
    name = _constraint(asked)
    param = f"structured_outputs.{name}"
    options = _json_options(asked, name)
    match name:
        case "json":
            return schema_spec(asked.json, param, options)
        case "json_object":
            return schema_spec({"type": "object"}, param, options)
        case "structural_tag":
            tag = asked.structural_tag
            return tag_spec(
                tag if isinstance(tag, dict) else decode_object(tag or "", param), param, options
            )
        case "choice":
            return choice_spec(asked.choice or [], param)
        case "regex":
            return make_spec("regex", asked.regex or "", param)
    return make_spec("ebnf", asked.grammar or "", param)


def _constraint(asked: StructuredOutputs) -> str:
    """The one constraint's name. `json_object` false is as good as absent."""
    given = {name: getattr(asked, name) for name in CONSTRAINTS}
    names = [name for name, value in given.items() if value is not None]
    if given["json_object"] is False:
        names.remove("json_object")
    if len(names) != 1:
        found = f"got {', '.join(names)}" if names else "got none"
        raise InvalidRequest(
            f"structured_outputs must have exactly one of {', '.join(CONSTRAINTS)}; {found}.",
            param="structured_outputs",
        )
    return names[0]


def _json_options(asked: StructuredOutputs, constraint: str) -> JsonOptions:
    """Raises InvalidRequest for an option of JSON where nothing is JSON."""
    pattern, none = asked.whitespace_pattern, bool(asked.disable_any_whitespace)
    param = "structured_outputs.whitespace_pattern"
    if pattern is not None and none:
        raise InvalidRequest(
            "whitespace_pattern and disable_any_whitespace exclude each other.", param=param
        )
    if pattern is not None and not 0 < len(pattern.encode()) <= MAX_WHITESPACE_BYTES:
        raise InvalidRequest(f"{param} must have 1 to {MAX_WHITESPACE_BYTES} bytes.", param=param)
    options = JsonOptions(
        whitespace="" if none else pattern,
        close_objects=bool(asked.disable_additional_properties),
    )
    if options != ANY_WHITESPACE and constraint not in ("json", "json_object", "structural_tag"):
        raise InvalidRequest(
            f"structured_outputs: whitespace and additional properties are options of JSON, "
            f"not of {constraint}.",
            param="structured_outputs",
        )
    return options


def _convert(given: dict[str, Any], kind: type[T], param: str) -> T:
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{param}: {error}.", param=param) from error
