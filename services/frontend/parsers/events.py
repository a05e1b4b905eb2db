"""What a parser finds in an output, told to an Output as it is found."""

from __future__ import annotations

from typing import Protocol


class Output(Protocol):
    """Receives an output's parts in their order."""

    def content(self, text: str) -> None: ...

    def reasoning(self, text: str) -> None: ...

    def begin_call(self, name: str, call_id: str | None = None) -> None:
        """`call_id`: where the format has ids of its own."""

    def arguments(self, text: str) -> None:
        """The next part of the begun call's arguments: JSON text."""
