"""Chat templates: Jinja text from the model's files, rendered in Jinja's immutable sandbox.

The variables, filters and environment settings are those that templates on the hub are written
against (transformers' `apply_chat_template`); the code here is our own, because importing
transformers' tokenizers imports torch.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NoReturn, TypeAlias

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from octavo.shared.errors import ConfigError, InvalidRequest

Message: TypeAlias = Mapping[str, Any]

_CONTINUE_TAG = "OCTAVO_CONTINUE_FINAL_MESSAGE "
"""Marks the end of the last message. The space shows whether the template trims contents."""


OWN_NAMES = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "continue_final_message"}
)
MAX_REFUSAL = 400
"""Characters of a template's own words that reach a client."""


class _TooLong(Exception):
    pass


class TemplateRefusal(Exception):
    """The template itself called `raise_exception`."""


class _GenerationBlock(Extension):
    """`{% generation %}…{% endgeneration %}`, a training aid: renders as its body."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


def _raise_exception(message: str) -> NoReturn:
    raise TemplateRefusal(message)


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **kw: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **kw)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


class ChatTemplate:
    """One compiled template. `variables` are the tokenizer's special tokens (`bos_token`, …)."""

    def __init__(self, source: str, variables: Mapping[str, str]) -> None:
        self._source = source
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise ConfigError(f"The chat template has an error: {error}") from error
        except Exception as error:  # Python's own compiler has limits too
            raise ConfigError("The chat template cannot be compiled.") from error
        self._variables = dict(variables)

    @cached_property
    def names(self) -> frozenset[str]:
        """The variables that the template speaks of, but for those that are ours to set."""
        environment = self._template.environment
        used = find_undeclared_variables(environment.parse(self._source))
        return frozenset(used - {*environment.globals, *self._variables, *OWN_NAMES})

    def render(
        self,
        messages: Sequence[Message],
        options: Mapping[str, Any],
        max_chars: int | None = None,
    ) -> str:
        """The prompt's text. `options`: the template's variables, `continue_final_message` beside.

        Raises InvalidRequest where the template cannot take the messages, or writes more than
        `max_chars`.
        """
        if not messages:
            raise InvalidRequest("messages must not be empty.", param="messages")
        known = {"tools": None, "documents": None, "add_generation_prompt": True, **options}
        if known.pop("continue_final_message", False):
            return self._render_open(messages, known, max_chars)
        return self._render(messages, known, max_chars)

    def _render(
        self, messages: Sequence[Message], options: dict[str, Any], max_chars: int | None
    ) -> str:
        pieces = self._template.generate(self._variables | options | {"messages": messages})
        try:
            return "".join(pieces if max_chars is None else _counted(pieces, max_chars))
        except TemplateRefusal as refusal:
            raise InvalidRequest(
                f"The chat template refuses these messages: {str(refusal)[:MAX_REFUSAL]}",
                param="messages",
            ) from refusal
        except _TooLong:
            raise InvalidRequest(
                f"The chat template makes more than {max_chars} characters of these messages.",
                param="messages",
            ) from None
        except Exception as error:  # a template is the model's code: whatever it raises
            raise InvalidRequest(
                "The chat template cannot render these messages.", param="messages"
            ) from error

    def _render_open(
        self, messages: Sequence[Message], options: dict[str, Any], max_chars: int | None
    ) -> str:
        """Render with the last message left open, for the model to go on with."""
        last = dict(messages[-1])
        last["content"] = (last.get("content") or "") + _CONTINUE_TAG
        closed = options | {"add_generation_prompt": False}
        text = self._render([*messages[:-1], last], closed, max_chars)
        end = text.rfind(_CONTINUE_TAG.strip())
        if end < 0:
            raise InvalidRequest(
                "The chat template drops the final message, so it cannot be continued.",
                param="continue_final_message",
            )
        trims = not text.startswith(_CONTINUE_TAG, end)
        return text[:end].rstrip() if trims else text[:end]


def _counted(pieces: Iterator[str], most: int) -> Iterator[str]:
    for piece in pieces:
        most -= len(piece)
        if most < 0:
            raise _TooLong
        yield piece
