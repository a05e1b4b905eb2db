"""A dialogue as text: its messages, its questions for the exam, and the ChatML form of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octavo.services.demo.tooling import Tool, listed_tools

END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"

# The same form that `segments` and `prompt` write, in the language of tokenizer_config.json.
CHAT_TEMPLATE = (
    "{% set says = messages[0]['role'] == 'system' %}"
    "{% if tools %}{{ '<|im_start|>system\\n' + (messages[0]['content'] + '\\n' if says else '') }}"
    "{{ '<tools>\\n' }}{% for tool in tools %}{% set f = tool['function'] %}"
    "{{ '- ' + f['name'] + '(' }}"
    "{% for name, schema in ((f['parameters'] or {})['properties'] or {}).items() %}"
    "{{ name + ': ' + (schema['type'] if schema['type'] is string else 'any') }}"
    "{{ '' if loop.last else ', ' }}{% endfor %}"
    "{{ ')' + (': ' + f['description'] if f['description'] else '') + '\\n' }}{% endfor %}"
    "{{ '</tools><|im_end|>\\n' }}{% endif %}"
    "{% for message in messages %}{% if not (tools and says and loop.first) %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + (message['content'] or '') }}"
    "{% for call in message['tool_calls'] or [] %}"
    "{{ '\\n' if message['content'] or not loop.first else '' }}"
    "{{ '<tool_call>\\n' + {'name': call['function']['name'], "
    "'arguments': call['function']['arguments']} | tojson + '\\n</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\\n' }}{% endif %}{% endfor %}"
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
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of text that is tokenized by itself; the loss counts where `trained`."""

    text: str
    trained: bool


def message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def prompt(messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
    """The text after which the model answers."""
    return "".join(map(_closed, with_tools(messages, tools))) + f"{IM_START}assistant\n"


def with_tools(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    """The messages with the tools in the system message, which is made where there is none."""
    if not tools:
        return list(messages)
    says = bool(messages) and messages[0]["role"] == "system"
    before = messages[0]["content"] + "\n" if says else ""
    system = message("system", before + listed_tools(tools))
    return [system, *messages[1 if says else 0 :]]


def segments(messages: Sequence[Message], tools: Sequence[Tool] = ()) -> list[Segment]:
    """A dialogue for training, then the separator: only what the assistant says is trained."""
    parts: list[Segment] = []
    context = ""
    for said in with_tools(messages, tools):
        if said["role"] == "assistant":
            parts.append(Segment(f"{context}{IM_START}assistant\n", trained=False))
            parts.append(Segment(said["content"] + IM_END, trained=True))
            context = "\n"
        else:
            context += _closed(said)
    return [*parts, Segment(context + END_OF_TEXT, trained=False)]


def _closed(said: Message) -> str:
    return f"{IM_START}{said['role']}\n{said['content']}{IM_END}\n"
