"""What tools, reasoning and constraints of a chat request come to, once its prompt is known."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from octavo.services.frontend.chat_parts import Reading
from octavo.services.frontend.parsers.call_format import calls_spec
from octavo.services.frontend.parsers.reasoning import HARMONY, Reasoning
from octavo.services.frontend.parsers.registry import HARMONY_PARSER, PLAIN_PARSER, ToolParser
from octavo.services.frontend.schema import ChatRequest
from octavo.services.frontend.service import Service
from octavo.services.frontend.tools import ToolUse
from octavo.shared.errors import InvalidRequest
from octavo.shared.grammar.request import request_grammar
from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.sampling import SamplingParams
from octavo.shared.text.tokenizer import Tokenizer

TAIL = 32
"""Tokens of a prompt's end in which a template's reasoning marks are looked for."""


@dataclass(frozen=True)
class ChatPlan:
    """`reading` None: the output is content as it is."""

    reading: Reading | None = None
    grammar: GrammarSpec | None = None
    begin_ids: tuple[int, ...] = ()
    end_ids: tuple[int, ...] = ()
    """Of reasoning that may come first."""
    budget: int | None = None
    visible: frozenset[int] = frozenset()
    """Special tokens that the parsers must see."""

    def applied(self, sampling: SamplingParams) -> SamplingParams:
        constrained = self.grammar is not None or self.budget is not None
        return msgspec.structs.replace(
            sampling,
            grammar=self.grammar,
            thinking_token_budget=self.budget,
            reasoning_begin_ids=list(self.begin_ids) if constrained else [],
            reasoning_end_ids=list(self.end_ids) if constrained else [],
        )


async def chat_plan(
    body: ChatRequest, use: ToolUse, prompt_ids: list[int], service: Service, tenant: str
) -> ChatPlan:
    """Raises InvalidRequest for what cannot be had, Overloaded as `GrammarCompiler.check`."""
    reader, reasoning = _reader(use, service), service.parsers.reasoning
    if body.thinking_token_budget is not None and reasoning is None:
        raise InvalidRequest(
            "thinking_token_budget needs a model whose reasoning this server can read "
            "(--reasoning-parser).",
            param="thinking_token_budget",
        )
    grammar = await _grammar(body, use, reader, service, tenant)
    if reader is None and reasoning is None:
        return ChatPlan(grammar=grammar)
    tokenizer, inside = service.tokenizer, None
    if reasoning is not None:
        inside = reasoning.begun_by(_tail(prompt_ids, reasoning, tokenizer))
    begin_ids, end_ids = _marks(reasoning, inside, use, tokenizer)
    reading = Reading(reader, reasoning, inside, use.types, use.one_call, end_ids)
    budget = body.thinking_token_budget if end_ids else None
    visible = _visible(reader, reasoning, tokenizer)
    return ChatPlan(reading, grammar, begin_ids, end_ids, budget, visible)


def _marks(
    reasoning: Reasoning | None, inside: bool | None, use: ToolUse, tokenizer: Tokenizer
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How reasoning that may still come begins and ends, in ids."""
    if reasoning is None or inside is False:
        return (), ()
    end = _encode(reasoning.end_before(calls=use.forced), tokenizer)
    return () if inside else _encode(reasoning.begin[0], tokenizer), end


def _reader(use: ToolUse, service: Service) -> ToolParser | None:
    """What reads the calls. Raises InvalidRequest where nothing could."""
    own, reasoning = service.parsers.tools, service.parsers.reasoning
    if reasoning is HARMONY:
        return HARMONY_PARSER
    if not use.callable:
        return None
    if use.forced:
        return own if own is not None and own.own else PLAIN_PARSER
    if own is None or not service.config.enable_auto_tool_choice:
        raise InvalidRequest(
            "tool_choice auto needs a parser for this model's calls, and its chat template tells "
            "of none (--tool-call-parser).",
            param="tool_choice",
        )
    return own


async def _grammar(
    body: ChatRequest, use: ToolUse, reader: ToolParser | None, service: Service, tenant: str
) -> GrammarSpec | None:
    asked = request_grammar(body.response_format, body.structured_outputs)
    by_format = body.structured_outputs is None
    param = "response_format" if by_format else "structured_outputs"
    calls = None if reader is None else _calls(use, reader, asked, service.tokenizer)
    if calls is not None:
        asked, param = calls, "tools"
    return None if asked is None else await service.grammars.check(asked, param, tenant)


def _calls(
    use: ToolUse, reader: ToolParser, answer: GrammarSpec | None, tokenizer: Tokenizer
) -> GrammarSpec | None:
    """The grammar of calls, where something holds for them; `answer`: what holds without any."""
    if not use.callable:
        return None
    form, special = reader.calls, tokenizer.special_texts()
    if use.forced:
        return calls_spec(form, use.schemas(), special, one=use.one_call)
    if not reader.own:
        return None
    if answer is not None:
        if answer.kind != "json_schema":
            return None
        return calls_spec(form, use.schemas(), special, one=use.one_call, answer=answer.text)
    if not use.strict or not form.trigger:
        return None
    return calls_spec(form, use.schemas(), special, one=use.one_call, optional=True)


def _tail(ids: list[int], reasoning: Reasoning, tokenizer: Tokenizer) -> str:
    """The text behind the prompt's last special token that is no mark of reasoning: what the
    template wrote to open the answer, and nothing that a user wrote."""
    marks = {*reasoning.begin, *reasoning.end}
    tail = ids[-TAIL:]
    for index in range(len(tail) - 1, -1, -1):
        if tokenizer.is_special(tail[index]) and tokenizer.token_text(tail[index]) not in marks:
            tail = tail[index + 1 :]
            break
    return tokenizer.decode(tail, skip_special_tokens=False)


def _encode(mark: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    return tuple(tokenizer.encode(mark, add_special_tokens=False))


def _visible(
    reader: ToolParser | None, reasoning: Reasoning | None, tokenizer: Tokenizer
) -> frozenset[int]:
    marks = {*(reader.marks if reader else ()), *(reasoning.marks if reasoning else ())}
    return frozenset(i for i in tokenizer.special_ids if tokenizer.token_text(i) in marks)
