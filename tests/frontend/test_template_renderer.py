"""Chat templates in their helper process: answers, limits, deaths."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from octavo.services.frontend import template_renderer
from octavo.services.frontend.template_renderer import QUICK_BYTES, TOO_COSTLY, TemplateRenderer
from octavo.shared.errors import ConfigError, InvalidRequest, Overloaded, RequestFailed
from octavo.shared.text.template_job import TemplateConfig, TemplateJob

OWN = "{{ bos_token }}{{ messages[0].content }}{{ shout }}{{ add_generation_prompt }}"
ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
FOLDED = "{{ 'a' * 99999999 }}"
"""Jinja computes it when it compiles."""

Test = Callable[[TemplateRenderer], Awaitable[None]]


def job(content: str = "Hi", **fields: Any) -> TemplateJob:
    messages = [{"role": "user", "content": content}]
    return TemplateJob(messages=messages, options=fields.pop("options", {}), **fields)


def run(test: Test, template: str | None = OWN, **config: Any) -> None:
    async def main() -> None:
        renderer = TemplateRenderer(
            TemplateConfig(template=template, special_tokens={"bos_token": "<s>"}, **config)
        )
        try:
            await test(renderer)
        finally:
            await renderer.close()
        assert (renderer._quick.helper.pid, renderer._slow.helper.pid) == (None, None)

    asyncio.run(main())


async def refused(renderer: TemplateRenderer, asked: TemplateJob) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        await renderer.render(asked)
    return caught.value


def test_prompts() -> None:
    async def test(renderer: TemplateRenderer) -> None:
        await renderer.start()
        assert await renderer.render(job("ä")) == "<s>äTrue"
        assert await renderer.render(job(options={"add_generation_prompt": False})) == "<s>HiFalse"
        assert await renderer.render(job(template="{{ messages | tojson }}")) == (
            '[{"role": "user", "content": "Hi"}]'
        )
        number = 123456789012345678901234567890
        tools = {"tools": [{"maximum": number}]}
        assert str(number) in await renderer.render(job(template="{{ tools }}", options=tools))
        large = "😀" * QUICK_BYTES
        assert large in await renderer.render(job(large))
        many = await asyncio.gather(*(renderer.render(job(str(i))) for i in range(100)))
        assert many == [f"<s>{i}True" for i in range(100)]

    run(test)


def test_only_variables_that_the_template_speaks_of_reach_it() -> None:
    async def test(renderer: TemplateRenderer) -> None:
        kwargs = {"shout": "!", "enable_thinking": True, "bos_token": "x", "messages": "x"}
        assert await renderer.render(job(kwargs=kwargs)) == "<s>Hi!True"
        globals_ = {"raise_exception": "x", "range": "x", "namespace": "x", "self": "x"}
        template = "{% for i in range(2) %}{{ i }}{% endfor %}"
        assert await renderer.render(job(template=template, kwargs=globals_)) == "01"

    run(test)


@pytest.mark.parametrize(
    ("template", "param"),
    [
        ("{% if %}", "chat_template"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "chat_template"),
        ("{{ raise_exception('no') }}", "messages"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "messages"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "messages"),
        ("{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "messages"),
        ("{% set x = messages[0].content * 90000000 %}{{ [x ~ 1, x ~ 2, x ~ 3] }}", "messages"),
        (ENDLESS, "messages"),
    ],
)
def test_hostile_templates_of_requests(template: str, param: str) -> None:
    async def test(renderer: TemplateRenderer) -> None:
        await renderer.start()
        assert await renderer.render(job(template="both are up")) == "both are up"
        began = time.monotonic()
        assert (await refused(renderer, job(template=template))).param == param
        assert time.monotonic() - began < 1.5
        assert await renderer.render(job()) == "<s>HiTrue"

    run(test)


def test_nobody_waits_for_another_ones_costly_template() -> None:
    async def test(renderer: TemplateRenderer) -> None:
        await renderer.start()
        costly = asyncio.create_task(refused(renderer, job(template=ENDLESS)))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        assert await renderer.render(job()) == "<s>HiTrue"
        assert time.monotonic() - began < 0.5
        assert not costly.done()
        assert (await costly).message == TOO_COSTLY

    run(test)


def test_a_prompt_that_took_long_ends_its_helper_after_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It had stepped back behind all other work, and nobody else shall wait for it."""
    monkeypatch.setattr(template_renderer, "WALL_SECONDS", 30.0)  # it steps back behind this too

    async def test(renderer: TemplateRenderer) -> None:
        slow = "{% for i in range(N) %}{% for j in range(999) %}{% endfor %}{% endfor %}x"
        pids = []
        for number in (1, 5000):
            template = slow.replace("N", str(number))
            assert await renderer.render(job(template=template)) == "x"
            pids.append(renderer._slow.helper.pid)
        assert await renderer.render(job(template="y")) == "y"
        assert renderer._slow.helper.pid not in pids

    run(test, cpu_seconds=5.0)


def test_a_costly_template_of_the_model() -> None:
    async def test(renderer: TemplateRenderer) -> None:
        await renderer.start()
        began = time.monotonic()
        answers = await asyncio.gather(
            *(renderer.render(job()) for _ in range(3)), return_exceptions=True
        )
        assert time.monotonic() - began < 1.6
        assert {type(answer) for answer in answers} <= {InvalidRequest, Overloaded}

    run(test, ENDLESS)


def test_a_template_of_the_model_that_cannot_be_compiled() -> None:
    async def test(renderer: TemplateRenderer) -> None:
        await renderer.start()
        began = time.monotonic()
        with pytest.raises(RequestFailed):
            await renderer.render(job())
        assert time.monotonic() - began < 0.1  # it is not tried again at once

    run(test, FOLDED, cpu_seconds=0.1)


def test_an_error_in_the_models_template_ends_the_start() -> None:
    async def test(renderer: TemplateRenderer) -> None:
        with pytest.raises(ConfigError, match="template"):
            await renderer.start()

    run(test, "{% if %}")


def test_no_template() -> None:
    async def test(renderer: TemplateRenderer) -> None:
        assert "no chat template" in (await refused(renderer, job())).message
        assert await renderer.render(job(template="x")) == "x"

    run(test, None)


def test_helpers_killed_idle_and_at_work_are_replaced() -> None:
    async def test(renderer: TemplateRenderer) -> None:
        await renderer.start()
        helper = renderer._quick.helper
        for _ in range(2):
            pid = helper.pid
            assert pid is not None
            waiting = [asyncio.create_task(renderer.render(job(str(i)))) for i in range(20)]
            await asyncio.sleep(0)
            os.kill(pid, signal.SIGKILL)
            assert await asyncio.gather(*waiting) == [f"<s>{i}True" for i in range(20)]
            assert helper.pid not in (None, pid)

    run(test)


def test_a_client_that_leaves_takes_its_place_in_the_queue_with_it() -> None:
    async def test(renderer: TemplateRenderer) -> None:
        await renderer.start()
        leaving = [asyncio.create_task(renderer.render(job(template=ENDLESS))) for _ in range(30)]
        await asyncio.sleep(0.1)
        for task in leaving:
            task.cancel()
        assert await renderer.render(job(template="x")) == "x"

    run(test, cpu_seconds=0.05)


def test_helpers_that_do_not_start() -> None:
    async def main() -> None:
        command = (sys.executable, "-c", "raise SystemExit(3)")
        renderer = TemplateRenderer(TemplateConfig(template=OWN, special_tokens={}), command)
        await renderer.start()
        with pytest.raises(RequestFailed):
            await renderer.render(job())
        await renderer.close()

    asyncio.run(main())
