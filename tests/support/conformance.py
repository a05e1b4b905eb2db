"""Conformance cases: a request field, what it accepts, a proof of its effect, what is refused.

`tests/conformance` runs them through the application in-process and writes docs/api.md from them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from front_engine import Frontend, parse_events

from octavo.shared.messages import Submit

CHAT, COMPLETIONS, TOKENIZE = "/v1/chat/completions", "/v1/completions", "/tokenize"
DETOKENIZE = "/detokenize"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
BOTH = (CHAT, COMPLETIONS)
BASE: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}]},
    COMPLETIONS: {"prompt": "Hi"},
    TOKENIZE: {},
    DETOKENIZE: {},
    RESPONSES: {"input": "Hi"},
    MESSAGES: {"model": "tiny", "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]},
}
"""What a request needs at least."""
HEADER = "x-octavo-ignored-fields"


class Probe:
    """One route of a running frontend."""

    def __init__(self, front: Frontend, route: str) -> None:
        self.front = front
        self.route = route

    async def post(self, **fields: Any) -> Any:
        return await self.front.post(self.route, **{**BASE[self.route], **fields})

    async def ask(self, **fields: Any) -> Any:
        response = await self.post(**fields)
        assert response.status_code == 200, response.text
        return response.json()

    async def stream(self, **fields: Any) -> list[Any]:
        response = await self.post(stream=True, **fields)
        assert response.status_code == 200, response.text
        return parse_events(response.text)

    async def text(self, **fields: Any) -> str:
        """The first choice's text."""
        return text_of((await self.ask(**fields))["choices"][0])

    @property
    def submit(self) -> Submit:
        """The last sequence that went to the engine."""
        return self.front.engine.submits[-1]


Proof = Callable[[Probe], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """`borders`: values of the field (or whole bodies, as dicts with it) that are a 400 naming it.

    `elsewhere`: the test that shows what the engine does with it. `config`: the server's options.
    """

    field: str
    accepts: str
    effect: str
    proof: Proof
    borders: Sequence[Any] = ()
    routes: tuple[str, ...] = BOTH
    elsewhere: str | None = None
    config: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.field.replace(" ", "_")

    def bodies(self) -> list[dict[str, Any]]:
        return [one if _is_body(one, self.field) else {self.field: one} for one in self.borders]


def _is_body(value: Any, name: str) -> bool:
    return isinstance(value, dict) and name in value


def text_of(choice: dict[str, Any]) -> str:
    if "message" in choice:
        return str(choice["message"]["content"])
    return str(choice["text"])


def sent(name: str, value: Any, as_: Any = None, **others: Any) -> Proof:
    """The engine gets the field's value, as `as_` where that is another."""

    async def proof(probe: Probe) -> None:
        await probe.ask(**{name: value}, **others)
        assert getattr(probe.submit.sampling, name) == (value if as_ is None else as_)

    return proof


def refused(*values: Any, param: str | None = None) -> Callable[[str], Proof]:
    """Each value is a 400 that names the field."""

    def of(name: str) -> Proof:
        async def proof(probe: Probe) -> None:
            for value in values:
                response = await probe.post(**{name: value})
                error = response.json()["error"]
                assert (response.status_code, error["param"]) == (400, param or name)
                assert (await probe.post(**{name: None})).status_code == 200

        return proof

    return of


def not_supported(name: str, value: Any, routes: tuple[str, ...] = BOTH) -> Case:
    return Case(
        name, "null", "refused with 400: not supported", refused(value)(name), [value], routes
    )


def ignored(name: str, value: Any, routes: tuple[str, ...] = BOTH) -> Case:
    async def proof(probe: Probe) -> None:
        plain = await probe.text()
        response = await probe.post(**{name: value})
        assert text_of(response.json()["choices"][0]) == plain
        assert response.headers[HEADER] == name

    effect = "none: named in `X-Octavo-Ignored-Fields`"
    return Case(name, "anything", effect, proof, (), routes)


def table(cases: Sequence[Case]) -> str:
    """The cases as a Markdown table."""
    rows = ["| field | accepted | effect | proven by | refused with 400 |", "|---|---|---|---|---|"]
    rows += [_row(case) for case in cases]
    return "\n".join(rows)


def _row(case: Case) -> str:
    proofs = [f"`test_effect[{case.id}]`"]
    if case.elsewhere:
        proofs.append(f"`{case.elsewhere}`")
    borders = ", ".join(f"`{_short(body[case.field])}`" for body in case.bodies()) or "-"
    cells = (f"`{case.field}`", case.accepts, case.effect, ", ".join(proofs), borders)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _short(value: Any) -> str:
    if isinstance(value, str) and len(value) > 24:
        return f"{len(value)} characters"
    if isinstance(value, (list, dict)) and len(value) > 8:
        return f"{len(value)} entries"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
