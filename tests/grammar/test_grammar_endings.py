"""Schemas that no finite value fits."""

from __future__ import annotations

from typing import Any

import pytest
from grammar_schemas import ALL, ENDLESS

from octavo.services.grammar.endings import can_end


@pytest.mark.parametrize("schema", ENDLESS)
def test_endless(schema: Any) -> None:
    assert not can_end(schema)


def test_all_others_end() -> None:
    assert [
        name for name, schema in ALL.items() if schema is not True and not can_end(schema)
    ] == []
    assert can_end({"$ref": "elsewhere"})
    assert can_end({"type": "array", "minItems": 1, "items": False}), "not for here to say"
