"""A dialogue as text: its messages, its questions for the exam, and the ChatML form of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"

# The same form that `segments` and `prompt` write, in the language of tokenizer_config.json.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question and its answer; `short` is the bare answer where there is one."""

    user: str
    answer: str
    short: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One exam question; `grader` names how `expected` is looked for (see grading.py)."""

    subject: str
    messages: tuple[Message, ...]
    expected: str
    grader: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of text that is tokenized by itself; the loss counts where `trained`."""

    text: str
    trained: bool


def message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def prompt(messages: Sequence[Message]) -> str:
    """The text after which the model answers."""
    return "".join(map(_closed, messages)) + f"{IM_START}assistant\n"


def segments(messages: Sequence[Message]) -> list[Segment]:
    """A dialogue for training, then the separator: only what the assistant says is trained."""
    parts: list[Segment] = []
    context = ""
    for said in messages:
        if said["role"] == "assistant":
            parts.append(Segment(f"{context}{IM_START}assistant\n", trained=False))
            parts.append(Segment(said["content"] + IM_END, trained=True))
            context = "\n"
        else:
            context += _closed(said)
    return [*parts, Segment(context + END_OF_TEXT, trained=False)]


def _closed(said: Message) -> str:
    return f"{IM_START}{said['role']}\n{said['content']}{IM_END}\n"
