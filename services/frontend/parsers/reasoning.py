"""Reasoning: what a model writes before its answer, between marks."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.services.frontend.parsers.events import Output
from octavo.services.frontend.parsers.reader import Reader, Steps


@dataclass(frozen=True)
class Reasoning:
    """`begin`: the marks that may open it; `end`: those that may close it, the usual one first.

    `implied`: the model begins inside of it without a mark, whatever the prompt ends with.
    """

    begin: tuple[str, ...]
    end: tuple[str, ...]
    implied: bool = False
    end_of_calls: str = ""
    """What comes before calls instead, where the format tells them apart."""

    @property
    def marks(self) -> tuple[str, ...]:
        return self.begin + self.end

    def end_before(self, calls: bool) -> str:
        """The mark behind which the answer begins, or the calls that take its place."""
        return (self.end_of_calls if calls else "") or self.end[0]

    def begun_by(self, prompt_end: str) -> bool | None:
        """Whether a prompt that ends so leaves the model inside; None: the prompt says nothing."""
        begun = max(prompt_end.rfind(mark) for mark in self.begin)
        ended = max(prompt_end.rfind(mark) for mark in self.end)
        if begun == ended == -1:
            return True if self.implied else None
        return begun > ended

    def read(self, reader: Reader, out: Output, inside: bool | None) -> Steps[None]:
        """Read up to the answer. `inside`: as `begun_by` says of the prompt."""
        if inside is False:
            return
        reader.keep()
        yield from reader.blanks()
        begun = yield from reader.skip(*self.begin)
        if not begun and not inside:
            out.content(reader.kept())
            reader.release()
            return
        reader.release()
        yield from reader.until(self.end, out.reasoning)


THINK = Reasoning(("<think>",), ("</think>",))
DEEPSEEK_R1 = Reasoning(("<think>",), ("</think>",), implied=True)
MISTRAL = Reasoning(("[THINK]",), ("[/THINK]",))
GRANITE = Reasoning(
    ("Here is my thought process:", "Here's my thought process:"),
    ("Here is my response:", "Here's my response:"),
)
HARMONY = Reasoning(
    ("<|channel|>",),
    ("<|channel|>final<|message|>",),
    end_of_calls="<|end|><|start|>assistant",
)
"""The tool parser of the format tells its parts apart; here is where the answer begins."""
