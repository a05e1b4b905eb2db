"""The compiler and its helper process: verdicts, limits, deaths."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from grammar_hostile import COSTLY, HOSTILE
from grammar_schemas import ENDLESS, closed
from grammar_walks import EOS, MODEL, PADDED

from octavo.services.frontend.grammar_compiler import GrammarCompiler
from octavo.services.frontend.grammar_helper import GrammarHelper
from octavo.services.frontend.helper import HelperLost
from octavo.shared.errors import InvalidRequest, Overloaded
from octavo.shared.grammar.compiling import TOO_COMPLEX
from octavo.shared.grammar.helper import HelperConfig, Verdict
from octavo.shared.grammar.json_schema import schema_spec
from octavo.shared.grammar.request import request_grammar
from octavo.shared.grammar.spec import GrammarSpec

CONFIG = HelperConfig(tokenizer=str(MODEL), vocab_size=PADDED, eos_token_ids=EOS)
QUICK = HelperConfig(
    tokenizer=str(MODEL),
    vocab_size=PADDED,
    eos_token_ids=EOS,
    cpu_seconds=0.3,
    memory_bytes=1 << 28,
)
GOOD = GrammarSpec("regex", "good")
SLOW = GrammarSpec("lark", HOSTILE["terminals that intersect"]["grammar"])

Test = Callable[[GrammarCompiler, GrammarHelper], Awaitable[None]]


def run(test: Test, config: HelperConfig = QUICK, loop: Any = None, **limits: Any) -> None:
    """Run `test` beside one helper, which is gone afterwards."""

    async def main() -> None:
        helper = GrammarHelper(config)
        compiler = GrammarCompiler([helper], **limits)
        try:
            await test(compiler, helper)
        finally:
            await compiler.close()
        assert helper.pid is None

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


async def refused(compiler: GrammarCompiler, spec: GrammarSpec) -> str:
    with pytest.raises(InvalidRequest) as caught:
        await compiler.check(spec, "field")
    assert caught.value.param == "field"
    assert caught.value.status == 400
    return caught.value.message


def test_verdicts() -> None:
    async def test(compiler: GrammarCompiler, helper: GrammarHelper) -> None:
        await compiler.start()
        first = helper.pid
        assert await compiler.check(GOOD, "field") == GOOD
        gbnf = await compiler.check(GrammarSpec("ebnf", 'root ::= "a" | "b"'), "field")
        assert gbnf.kind == "lark"
        lark = await compiler.check(GrammarSpec("ebnf", 'start: "a"'), "field")
        assert lark == GrammarSpec("lark", 'start: "a"')
        assert "unclosed group" in await refused(compiler, GrammarSpec("regex", "("))
        assert "unknown name" in await refused(compiler, GrammarSpec("lark", "start: foo"))
        assert "root" in await refused(compiler, GrammarSpec("ebnf", 'x ::= "a"'))
        for schema in ENDLESS:
            assert "no text" in await refused(compiler, schema_spec(schema, "field"))
        assert helper.pid == first

    run(test)


def test_the_same_question_is_asked_once() -> None:
    async def test(compiler: GrammarCompiler, helper: GrammarHelper) -> None:
        asked: list[GrammarSpec] = []
        answer = helper.ask

        async def ask(spec: GrammarSpec) -> Any:
            asked.append(spec)
            return await answer(spec)

        helper.ask = ask  # type: ignore[method-assign]
        await asyncio.gather(*(compiler.check(GOOD, "field") for _ in range(5)))
        await compiler.check(GOOD, "field")
        bad = GrammarSpec("regex", "(")
        assert await refused(compiler, bad) == await refused(compiler, bad)
        assert asked == [GOOD, bad]

    run(test)


def test_hostile_grammars_are_refused_in_time() -> None:
    async def test(compiler: GrammarCompiler, helper: GrammarHelper) -> None:
        for name, fields in HOSTILE.items():
            began = time.monotonic()
            with pytest.raises(InvalidRequest) as caught:
                spec = request_grammar(None, fields)
                assert spec is not None
                await compiler.check(spec, "field")
            assert time.monotonic() - began < 10, name
            assert len(caught.value.message) < 1000, name
            assert await compiler.check(GOOD, "field") == GOOD, name

    run(test)


def test_costly_grammars_get_an_answer() -> None:
    async def test(compiler: GrammarCompiler, helper: GrammarHelper) -> None:
        for fields in COSTLY.values():
            spec = request_grammar(None, fields)
            assert spec is not None
            assert (await compiler.check(spec, "field")).text

    run(test, CONFIG)


def test_too_much_time_is_the_clients_error_and_remembered() -> None:
    async def test(compiler: GrammarCompiler, helper: GrammarHelper) -> None:
        assert TOO_COMPLEX in await refused(compiler, SLOW)
        began = time.monotonic()
        assert TOO_COMPLEX in await refused(compiler, SLOW)
        assert time.monotonic() - began < 0.1

    run(test)


async def kill_once_busy(helper: GrammarHelper, ignore: int | None) -> int:
    """SIGKILL the helper that works; returns its pid."""
    async with asyncio.timeout(20):
        while helper.pid in (None, ignore):
            await asyncio.sleep(0.01)
        pid = helper.pid
        assert pid is not None
        while not helper.process.asked:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)  # it is in the middle of it
    os.kill(pid, signal.SIGKILL)
    return pid


def test_a_helper_killed_at_work_is_replaced_and_asked_again() -> None:
    async def test(compiler: GrammarCompiler, helper: GrammarHelper) -> None:
        await compiler.start()
        question = asyncio.create_task(refused(compiler, SLOW))
        first = await kill_once_busy(helper, None)
        assert TOO_COMPLEX in await question
        assert helper.pid != first
        assert await compiler.check(GOOD, "field") == GOOD

    run(test)


def test_a_helper_killed_while_idle_is_replaced() -> None:
    async def test(compiler: GrammarCompiler, helper: GrammarHelper) -> None:
        await compiler.start()
        assert helper.pid is not None
        os.kill(helper.pid, signal.SIGKILL)
        assert await compiler.check(GOOD, "field") == GOOD

    run(test)


def test_a_grammar_that_kills_every_helper_is_refused() -> None:
    async def test(compiler: GrammarCompiler, helper: GrammarHelper) -> None:
        await compiler.start()
        question = asyncio.create_task(refused(compiler, SLOW))
        first = await kill_once_busy(helper, None)
        await kill_once_busy(helper, first)
        assert TOO_COMPLEX in await question

    run(test)


def test_too_many_questions_at_once() -> None:
    async def test(compiler: GrammarCompiler, helper: GrammarHelper) -> None:
        await compiler.start()
        waiting = [asyncio.create_task(refused(compiler, SLOW))]
        waiting.append(asyncio.create_task(_good(compiler, 1)))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            await compiler.check(GrammarSpec("regex", "c"), "field")
        assert caught.value.status == 503
        await asyncio.gather(*waiting)
        assert await compiler.check(GOOD, "field") == GOOD

    run(test, max_waiting=1)


class SlowHelper(GrammarHelper):
    """Takes as long as the test wants for each grammar."""

    def __init__(self) -> None:
        super().__init__(QUICK)
        self.at: list[str] = []
        self.done = asyncio.Semaphore(0)

    @property
    def pid(self) -> int | None:
        return 1

    async def ask(self, spec: GrammarSpec) -> Verdict:
        self.at.append(spec.text)
        await self.done.acquire()
        return Verdict(error=TOO_COMPLEX)

    async def stop(self) -> None:
        pass


async def asked_by(compiler: GrammarCompiler, helper: SlowHelper, *wishes: str) -> list[str]:
    """In which order wishes, `tenant:text`, get their turn."""
    tasks = []
    for wish in wishes:
        tenant, _, text = wish.partition(":")
        tasks.append(asyncio.create_task(compiler.check(GrammarSpec("regex", text), "f", tenant)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    for _ in wishes:
        helper.done.release()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, InvalidRequest) for one in outcomes)
    return helper.at


def test_tenants_take_turns() -> None:
    """One that always has a costly grammar under way, and many waiting, costs others one."""

    async def main() -> None:
        helper = SlowHelper()
        compiler = GrammarCompiler([helper])
        order = await asked_by(compiler, helper, "a:1", "a:2", "a:3", "a:4", "b:5", "b:6", "c:7")
        assert order == ["1", "5", "7", "2", "6", "3", "4"]
        await compiler.close()

    asyncio.run(main())


def test_a_tenant_has_few_waiting() -> None:
    async def main() -> None:
        helper = SlowHelper()
        compiler = GrammarCompiler([helper], max_waiting_each=2)
        tasks = []
        for number in range(3):
            spec = GrammarSpec("regex", str(number))
            tasks.append(asyncio.create_task(compiler.check(spec, "f", "a")))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await compiler.check(GrammarSpec("regex", "x"), "f", "a")
        tasks.append(asyncio.create_task(compiler.check(GrammarSpec("regex", "y"), "f", "b")))
        await asyncio.sleep(0)
        for _ in tasks:
            helper.done.release()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert helper.at == ["0", "y", "1", "2"]
        await compiler.close()

    asyncio.run(main())


async def _good(compiler: GrammarCompiler, number: int) -> str:
    spec = GrammarSpec("regex", f"x{number}")
    return (await compiler.check(spec, "field")).text


def test_nobody_waits_for_ever() -> None:
    async def test(compiler: GrammarCompiler, helper: GrammarHelper) -> None:
        await compiler.start()
        slow = asyncio.create_task(refused(compiler, SLOW))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await compiler.check(GOOD, "field")
        await slow

    run(test, wait_seconds=0.1)


def test_a_client_that_leaves_does_not_disturb_the_others() -> None:
    async def test(compiler: GrammarCompiler, helper: GrammarHelper) -> None:
        await compiler.start()
        leaving = asyncio.create_task(compiler.check(GOOD, "field"))
        staying = asyncio.create_task(compiler.check(GOOD, "field"))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying == GOOD
        assert await compiler.check(GrammarSpec("regex", "next"), "field")

    run(test)


def test_a_helper_that_does_not_start_is_our_fault() -> None:
    async def main() -> None:
        command = (sys.executable, "-c", "raise SystemExit(3)")
        compiler = GrammarCompiler([GrammarHelper(CONFIG, command)])
        await compiler.start()
        with pytest.raises(Overloaded):
            await compiler.check(GOOD, "field")
        await compiler.close()

    asyncio.run(main())


def test_a_model_that_cannot_stop_is_told_so() -> None:
    async def test(compiler: GrammarCompiler, helper: GrammarHelper) -> None:
        await compiler.start()
        with pytest.raises(InvalidRequest, match="end-of-sequence"):
            await compiler.check(GOOD, "field")

    run(test, msgspec.structs.replace(QUICK, eos_token_ids=[]))


def test_the_helper_ends_with_its_parent() -> None:
    async def test(compiler: GrammarCompiler, helper: GrammarHelper) -> None:
        await compiler.start()
        life = helper.process._life
        assert life is not None
        life._stdin.close()
        async with asyncio.timeout(10):
            await life._over.wait()
        assert life._transport.get_returncode() == 0

    run(test)


def test_a_costly_grammar_holds_up_nobody() -> None:
    """The other helper goes on, and the one that died is up again before it has another turn."""

    async def main() -> None:
        costly, other = (GrammarHelper(QUICK) for _ in range(2))
        compiler = GrammarCompiler([costly, other])
        await compiler.start()
        first = costly.pid
        slow = asyncio.create_task(refused(compiler, SLOW))
        await asyncio.sleep(0)
        for number in range(3):
            assert await _good(compiler, number)
            assert not slow.done()
        await slow
        assert costly.pid is None
        async with asyncio.timeout(10):
            while costly.pid is None:
                assert await _good(compiler, 3)
                await asyncio.sleep(0.01)
        assert costly.pid != first
        await compiler.close()
        assert costly.pid is other.pid is None

    asyncio.run(main())


def test_a_question_to_a_helper_that_is_ending() -> None:
    """Its pipe is closed before its end is known."""

    async def test(compiler: GrammarCompiler, helper: GrammarHelper) -> None:
        await compiler.start()
        life = helper.process._life
        assert life is not None
        life._stdin.close()
        await asyncio.sleep(0)
        with pytest.raises(HelperLost):
            await helper.ask(GOOD)
        assert await compiler.check(GOOD, "field") == GOOD

    run(test, loop=uvloop.new_event_loop)  # as in frontends; asyncio's own only warns


@pytest.mark.slow
def test_ten_thousand_schemas_cost_little_memory() -> None:
    """FAULTS.md, class E: RSS grows by at most 100 MiB, here and in the helper."""

    async def test(compiler: GrammarCompiler, helper: GrammarHelper) -> None:
        await compiler.start()
        pid = helper.pid
        before: list[int] = []
        for number in range(10_000):
            schema = closed({f"p{number}": {"type": "string", "pattern": f"^x{number}+$"}})
            await compiler.check(schema_spec(schema, "field"), "field")
            if number == 100:
                before = [_resident(pid), _resident(None)]
        assert helper.pid == pid
        growth = [_resident(pid) - before[0], _resident(None) - before[1]]
        assert max(growth) < 100 << 20, json.dumps(growth)

    run(test, CONFIG)


def _resident(pid: int | None) -> int:
    return int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1]) * 4096
