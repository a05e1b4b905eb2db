"""/openapi.json: of the shape of OpenAPI 3.1, and about every route that is served."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from front_engine import Frontend, frontend
from front_tokenizers import load_byte_level
from jsonschema import Draft202012Validator

from octavo.services.frontend.app import ROUTES, SERVED
from octavo.services.frontend.openapi import openapi_document

METHODS = {"get", "post", "put", "delete"}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """As a client gets it."""
    tokenizer = load_byte_level(tmp_path_factory.mktemp("tokenizer"))

    async def main() -> dict[str, Any]:
        async with frontend(tokenizer) as front:
            return await fetch(front)

    return asyncio.run(main())


async def fetch(front: Frontend) -> dict[str, Any]:
    response = await front.client.get("/openapi.json")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    found: dict[str, Any] = response.json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method, operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_shape(document: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"].keys() >= {"title", "version"}
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    for path, method, operation in operations(document):
        assert path.startswith("/") and method in METHODS
        assert operation["summary"]
        assert all(answer["description"] for answer in operation["responses"].values())
        assert {"200", "default"} <= operation["responses"].keys()


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = set(references(document))
    assert found
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert found <= known


def test_schemas_are_json_schemas(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_route_is_described(document: dict[str, Any]) -> None:
    for route in ROUTES:
        item = document["paths"][re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)]
        methods = (route.methods or set()) - {"HEAD"}
        assert {method.lower() for method in methods} == item.keys() - {"parameters"}
        names = set(re.findall(r"\{(\w+)", route.path))
        assert {one["name"] for one in item.get("parameters", ())} == names
    assert len(document["paths"]) == len({route.path for route in ROUTES}) == len(SERVED)


def test_bodies_and_their_bounds(document: dict[str, Any]) -> None:
    chat = document["paths"]["/v1/chat/completions"]["post"]
    reference = chat["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    assert schema["required"] == ["messages"]
    temperature = schema["properties"]["temperature"]["anyOf"]
    assert {"type": "number", "minimum": 0.0, "maximum": 100.0} in temperature
    assert chat["responses"]["200"]["content"].keys() == {"application/json", "text/event-stream"}


def test_keys_are_described_where_they_are_asked_for() -> None:
    assert "security" not in openapi_document(SERVED)
    assert openapi_document(SERVED, with_keys=True)["security"] == [{"key": []}]


def test_an_answer_is_as_described(document: dict[str, Any], tmp_path: Path) -> None:
    async def main() -> dict[str, Any]:
        async with frontend(load_byte_level(tmp_path)) as front:
            messages = [{"role": "user", "content": "Hi"}]
            response = await front.post(
                "/v1/chat/completions", messages=messages, logprobs=True, return_token_ids=True
            )
            answer: dict[str, Any] = response.json()
            return answer

    schema = {"$ref": "#/components/schemas/ChatCompletion", "components": document["components"]}
    Draft202012Validator(schema).validate(asyncio.run(main()))
