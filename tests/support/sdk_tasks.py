"""What SDKs and frameworks ask of the demo model in tests: small enough that it must be right in
form whatever it says."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

QUESTION = "What is 47 + 38?"
ASKED: list[Any] = [{"role": "user", "content": QUESTION}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "parity": {"type": "string", "enum": ["odd", "even"]},
        "large": {"type": "boolean"},
    },
    "required": ["parity", "large"],
    "additionalProperties": False,
}
TOOL_NAME = "judge"
TOOL_TEXT = "Say what kind of number the answer is."


class Verdict(BaseModel):
    """SCHEMA as a class: nothing that a rambling model could fill without an end."""

    model_config = ConfigDict(extra="forbid")
    parity: Literal["odd", "even"]
    large: bool


def is_verdict(arguments: Any) -> bool:
    return isinstance(arguments, dict) and bool(Verdict.model_validate(arguments, strict=True))
