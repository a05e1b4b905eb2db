"""Whether a JSON schema has any finite value: `{"next": <itself>}`, required, has none.

llguidance notices a schema that allows no first token, not one that can never close what it has
opened. Here: the least set of subschemas that can end, by repetition until it grows no more. Too
generous where it does not understand, never too strict.
"""

from __future__ import annotations

from typing import Any, TypeAlias
from urllib.parse import unquote

Schema: TypeAlias = Any


def can_end(root: Schema) -> bool:
    """Takes time with the square of the schema's size at worst: for the helper process."""
    nodes = list(reversed(list(_nodes(root))))  # the inner ones first: few rounds
    ending: set[int] = set()
    while True:
        grown = {id(node) for node in nodes if id(node) in ending or _ends(node, root, ending)}
        if id(root) in grown or len(grown) == len(ending):
            return id(root) in grown
        ending = grown


def _nodes(root: Schema) -> list[dict[str, Any]]:
    """Every object inside the value, itself first; schemas are among them."""
    found, todo = [], [root]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            found.append(value)
            todo += value.values()
        elif isinstance(value, list):
            todo += value
    return found


def _ends(schema: dict[str, Any], root: Schema, ending: set[int]) -> bool:
    """Whether it ends if those in `ending` do."""
    parts: list[Schema] = []
    if "$ref" in schema:
        parts.append(_target(schema["$ref"], root))
    parts += _list(schema.get("allOf"))
    if schema.get("type") == "object":
        properties = schema.get("properties")
        if isinstance(properties, dict):
            required = _list(schema.get("required"))
            parts += [properties[n] for n in required if isinstance(n, str) and n in properties]
    if schema.get("type") == "array" and schema.get("minItems"):
        first = _list(schema.get("prefixItems"))
        parts += first[: int(schema["minItems"])] or [schema.get("items", True)]
    choices = [schema[name] for name in ("anyOf", "oneOf") if _list(schema.get(name))]
    return all(_in(part, ending) for part in parts) and all(
        any(_in(one, ending) for one in choice) for choice in choices
    )


def _in(schema: Schema, ending: set[int]) -> bool:
    return not isinstance(schema, dict) or id(schema) in ending


def _target(reference: Any, root: Schema) -> Schema:
    """What a pointer into the schema names; True for what is not understood here."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return True
    if reference != "#" and not reference.startswith("#/"):
        return True
    value = root
    for part in unquote(reference).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(value, dict) or key not in value:
            return True
        value = value[key]
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
