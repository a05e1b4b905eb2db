"""Row D: a chat template costs its server next to nothing, whoever wrote it.

The helper's own tests are in tests/frontend/test_template_renderer.py.
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import httpx
import pytest
from machine import slowness
from security import BOMB, CHAT, COMPLETIONS, KEYS, Target

HI = [{"role": "user", "content": "Hi"}]
HEADERS = {"Authorization": f"Bearer {KEYS[0]}"}
LIMIT_SECONDS = 1.5
TOKENS = 80
ATTEMPTS = 5
BASE_ITL = 0.010
"""Below this a machine's own noise is larger than what is to be seen."""


def timed(served: Target, **body: Any) -> tuple[int, float]:
    began = time.monotonic()
    answer = served.post(CHAT, messages=HI, max_tokens=1, **body)
    return answer.status, time.monotonic() - began


def test_cve_2025_61620_templates_of_requests_are_refused(served: Target) -> None:
    """PYSEC-2026-2013 is the same."""
    for template in (BOMB, "x"):
        status, seconds = timed(served, chat_template=template)
        assert (status, seconds < 0.5) == (400, True)
    status, _ = timed(served, chat_template_kwargs={"chat_template": BOMB})
    assert status == 400


def test_cve_2025_61620_where_they_are_allowed_they_are_bounded(hostile: Target) -> None:
    bombs = (
        BOMB,
        "{{ 'a' * 999999999 }}",
        "{% set x = 'a' * 90000000 %}{{ [x ~ 1, x ~ 2, x ~ 3] }}",
        "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ " + "(" * 9000 + "1" + ")" * 9000 + " }}",
    )
    for template in bombs:
        status, seconds = timed(hostile, chat_template=template)
        assert status == 400, template
        assert seconds < LIMIT_SECONDS * slowness(), template
    assert timed(hostile, chat_template="{{ messages[0].content }}")[0] == 200


@pytest.mark.parametrize("name", ["tokenize", "messages", "add_generation_prompt", "eos_token"])
def test_cve_2025_62426_kwargs_override_nothing_of_ours(served: Target, name: str) -> None:
    answer = served.post(CHAT, messages=HI, max_tokens=1, chat_template_kwargs={name: True})
    assert (answer.status, answer.error["param"]) == (400, "chat_template_kwargs")
    assert name in answer.error["message"]


@pytest.mark.parametrize("value", [[1], {"a": 1}, [[]]])
def test_cve_2025_62426_kwargs_are_scalars(served: Target, value: Any) -> None:
    answer = served.post(CHAT, messages=HI, chat_template_kwargs={"x": value})
    assert answer.status == 400


def test_cve_2026_115918_no_other_endpoint_lets_a_template_in(served: Target) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/v1/responses": {"input": "Hi", "max_output_tokens": 1},
        "/v1/messages": {"messages": HI, "max_tokens": 1},
        "/v1/messages/count_tokens": {"messages": HI},
        "/tokenize": {"messages": HI},
    }
    for path, body in bodies.items():
        began = time.monotonic()
        kwargs = {"chat_template": BOMB}
        answer = served.post(
            path, model="demo", chat_template=BOMB, chat_template_kwargs=kwargs, **body
        )
        assert answer.status in (200, 400), answer.data
        if answer.status == 200:  # the field is not one of theirs
            assert "chat_template" in answer.headers["x-octavo-ignored-fields"]
        assert time.monotonic() - began < 1


def gaps(served: Target) -> list[float]:
    """Seconds between the events of one stream, in order of size."""
    body = {"prompt": "Tell me", "max_tokens": TOKENS, "ignore_eos": True, "stream": True}
    times = []
    url = served.server.url + COMPLETIONS
    with httpx.stream("POST", url, json=body, headers=HEADERS, timeout=60) as answer:
        times = [time.monotonic() for line in answer.iter_lines() if line.startswith("data: {")]
    return sorted(later - earlier for earlier, later in itertools.pairwise(times))


def p99(gaps: list[float]) -> float:
    return gaps[int(len(gaps) * 0.99)]


def beside_a_bomb(served: Target) -> tuple[list[float], list[tuple[int, float]]]:
    """A stream's gaps while chats are asked for, one after the other; and their answers."""
    answers: list[tuple[int, float]] = []
    over = threading.Event()

    def throw() -> None:
        while not over.is_set():
            answers.append(timed(served))

    thrower = threading.Thread(target=throw)
    thrower.start()
    time.sleep(0.1)
    try:
        return gaps(served), answers
    finally:
        over.set()
        thrower.join()


@pytest.mark.slow  # a ratio of times is no test where others use the machine
def test_cve_2026_115911_a_bomb_harms_no_stream(hostile: Target) -> None:
    """GHSA-542m-9234-8gvf: one render kept all others waiting, on every endpoint."""
    gaps(hostile)
    ratios = []
    for _ in range(ATTEMPTS):  # the machine has other work too
        alone = gaps(hostile)
        beside, answers = beside_a_bomb(hostile)
        assert {status for status, _ in answers} <= {400, 500}
        assert max(seconds for _, seconds in answers) < LIMIT_SECONDS * slowness()
        ratios.append(p99(beside) / max(p99(alone), BASE_ITL))
        print(f"p99 ITL {p99(alone) * 1e3:.1f} ms, beside a bomb {p99(beside) * 1e3:.1f} ms")
        if ratios[-1] <= 1.2:
            return
    raise AssertionError(ratios)


def test_cve_2026_115911_costly_templates_do_not_wedge_the_others(hostile: Target) -> None:
    """Requests with bombs of their own, and beside them one without."""
    throwers = [
        threading.Thread(target=timed, args=(hostile,), kwargs={"chat_template": BOMB})
        for _ in range(3)
    ]
    for thrower in throwers:
        thrower.start()
    began = time.monotonic()
    assert hostile.complete()["choices"]
    assert time.monotonic() - began < 1
    for thrower in throwers:
        thrower.join()


def test_what_a_template_makes_is_bounded(hostile: Target) -> None:
    most = 64 << 10
    for length, status in ((most - 100, {200, 400}), (most * 3, {400})):
        template = "{% for i in range(" + str(length // 10) + ") %}0123456789{% endfor %}"
        answer = hostile.post(CHAT, messages=HI, chat_template=template, truncate_prompt_tokens=9)
        assert answer.status in status, answer.data
