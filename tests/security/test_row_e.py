"""Row E: grammars of strangers, and outputs that a stranger steers.

The helper has tests in tests/frontend/test_grammar_compiler.py, and what parsers make of
text of every kind in tests/frontend/test_tool_parsers.py.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from bad_requests import BAD_GRAMMARS, BAD_SCHEMAS
from security import CHAT, Target

from octavo.services.frontend.chat_parts import ChatParts, Reading
from octavo.services.frontend.grammar_compiler import CACHE_BYTES, GrammarCompiler
from octavo.services.frontend.grammar_helper import GrammarHelper
from octavo.services.frontend.parsers.registry import TOOL_PARSERS
from octavo.shared.grammar.helper import HelperConfig, Verdict
from octavo.shared.grammar.spec import GrammarSpec

HI = [{"role": "user", "content": "Hi"}]


def constrained(served: Target, **given: Any) -> tuple[int, float]:
    began = time.monotonic()
    answer = served.post(CHAT, messages=HI, max_tokens=2, structured_outputs=given)
    return answer.status, time.monotonic() - began


def served_still(served: Target) -> None:
    assert served.complete()["choices"]
    assert served.call("GET", "/health").status == 200


@pytest.mark.parametrize("kind", BAD_GRAMMARS)
def test_cve_2025_48942_bad_grammars_are_the_clients_error(served: Target, kind: str) -> None:
    """CVE-2025-48943 (regex), PYSEC-2026-3933 and CVE-2026-105757: every backend, one guard."""
    for value in BAD_GRAMMARS[kind]:
        status, seconds = constrained(served, **{kind: value})
        assert (status, seconds < 10) == (400, True), value
    served_still(served)


@pytest.mark.parametrize("schema", BAD_SCHEMAS, ids=lambda one: json.dumps(one)[:40])
def test_cve_2025_48944_a_tools_schema_crashes_nothing(served: Target, schema: Any) -> None:
    function = {"name": "f", "parameters": schema, "strict": True}
    tools = [{"type": "function", "function": function}]
    answer = served.post(CHAT, messages=HI, tools=tools, tool_choice="required", max_tokens=2)
    assert answer.status in (200, 400), answer.data
    served_still(served)


@pytest.mark.parametrize("parser", sorted(TOOL_PARSERS))
def test_cve_2025_71379_parsers_take_linear_time(parser: str) -> None:
    """CVE-2025-48887: regular expressions over what the model wrote. Twice the text takes at most
    2.5 times as long."""

    def seconds(size: int) -> float:
        text = ("[{" + '{"a": "' + "(" * 20 + " f(x=[") * (size // 36)
        best = 9e9
        for _ in range(3):
            parts = ChatParts(Reading(TOOL_PARSERS[parser]))
            began = time.process_time()
            for start in range(0, len(text), 64):
                parts.push(text[start : start + 64], False)
            best = min(best, time.process_time() - began)
        return best

    seconds(10_000)
    assert seconds(80_000) <= max(2.5 * seconds(40_000), 0.05)


def test_cve_2025_9141_arguments_are_read_not_evaluated(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    evil = f"__import__('os').system('touch {proof}')"
    for name in sorted(TOOL_PARSERS):
        for text in (
            f"<tool_call>\n<function=f>\n<parameter=x>\n{evil}\n</parameter>\n</function>",
            f'<tool_call>{{"name": "f", "arguments": {evil}}}</tool_call>',
            f"[f(x={evil})]",
        ):
            types = {"f": {"type": "object", "properties": {"x": {"type": "object"}}}}
            parts = ChatParts(Reading(TOOL_PARSERS[name], types=types))
            parts.push(text, True)
    assert not proof.exists()


def test_cve_2025_29770_grammars_are_cached_in_memory_alone(served: Target) -> None:
    """Forty new schemas leave no file."""
    before = {path for path in served.folder.rglob("*")}
    constrained(served, regex="first")  # for which a helper is started
    resident = _resident(served)
    for number in range(40):
        schema = {"type": "object", "properties": {f"p{number}": {"type": "integer"}}}
        assert constrained(served, json=schema)[0] == 200
    assert {path for path in served.folder.rglob("*")} == before
    assert _resident(served) - resident < 40 << 20


class Agreeable(GrammarHelper):
    """Finds every grammar good, at once."""

    async def ask(self, spec: GrammarSpec) -> Verdict:
        return Verdict(spec=spec)

    @property
    def pid(self) -> int | None:
        return 1

    async def stop(self) -> None:
        pass


@pytest.mark.parametrize("size", [10, 100_000, CACHE_BYTES])
def test_cve_2025_32381_what_is_cached_has_a_bound_in_bytes(size: int) -> None:
    """GHSA-hf3c-wxg2-49q9 likewise: every new schema stayed in memory for ever. However many and
    however large they are; a hundred megabytes of them here. (Ten thousand real ones:
    test_ten_thousand_schemas_cost_little_memory.)"""
    config = HelperConfig(tokenizer="", vocab_size=1, eos_token_ids=[])

    async def main() -> None:
        compiler = GrammarCompiler([Agreeable(config)])
        for number in range(min(20_000, (100 << 20) // size)):
            await compiler.check(GrammarSpec("regex", f"{number:x<{size}}"), "field")
            if number % 500 == 0:
                _check_bytes(compiler)
        _check_bytes(compiler)
        await compiler.close()

    asyncio.run(main())


def _check_bytes(compiler: GrammarCompiler) -> None:
    held = [spec.text for spec in compiler._known._entries]
    assert sum(map(len, held)) <= CACHE_BYTES and not compiler._running


def _resident(served: Target) -> int:
    pages = 0
    for pid in served.tree():
        pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


def test_cve_2026_55574_a_regex_has_a_limit_of_time(served: Target) -> None:
    for pattern in ("(a+)+b", "(x+x+)+y", "((a{1,50}){1,50}){1,50}", "(a|aa)*" * 40 + "b"):
        status, seconds = constrained(served, regex=pattern)
        assert status in (200, 400) and seconds < 10, pattern
    served_still(served)
    deep: Any = {"type": "integer"}
    for _ in range(50):
        deep = {"type": "array", "items": deep}
    assert constrained(served, json=deep)[0] in (200, 400)
    body = b'{"messages":[],"structured_outputs":{"json":' + b'{"items":' * 100_000
    assert served.call("POST", CHAT, body).status == 400
