"""The live page in a headless Chromium, over a scripted server: what it does with what it is told.

`test_live_page` has it over a real one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from browser import Browser, chromium
from octavo_server import wait_for
from page_server import HOSTILE, Script, chunk, page_server, snapshot

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="chromium is not installed"),
]
EVENTS, CHAT = "/ui/events", "/v1/chat/completions"
OPERATOR, TEAM = "operator-key", "team-key"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[tuple[Browser, Script]]:
    """Opened; each has an origin, so a storage, of its own."""
    with page_server() as (url, script):
        browser.problems.clear()
        browser.resize(1280, 900)
        browser.prefer("light")
        browser.open(f"{url}/ui")
        yield browser, script
        browser.open("about:blank")


def text(browser: Browser, selector: str) -> str:
    return str(browser.run(f"document.querySelector({json.dumps(selector)}).innerText"))


def style(browser: Browser, selector: str, name: str) -> str:
    node = f"document.querySelector({json.dumps(selector)})"
    return str(browser.run(f"getComputedStyle({node}).{name}"))


def state_is(browser: Browser, state: str, seconds: float = 20) -> None:
    browser.until(f"document.getElementById('state').textContent === '{state}'", seconds)


def ask(browser: Browser, words: str) -> None:
    browser.run("document.getElementById('tab-chat').click()")
    browser.run("document.getElementById('text').focus()")
    browser.type(words)
    browser.press("Enter")


def answered(browser: Browser, number: int = 1) -> None:
    browser.until(f"document.querySelectorAll('.figures').length === {number}")


Page = tuple[Browser, Script]


# --- the server's view ----------------------------------------------------------------------------
def test_what_a_snapshot_says(page: Page) -> None:
    browser, script = page
    worker = {
        "name": "worker-0",
        "pid": 9,
        "state": "starting",
        "restarts": 2,
        "seconds": 4,
        "bytes": 0,
    }
    script.events[:] = [snapshot(processes=[worker], running=150)]
    browser.until("document.querySelectorAll('#process-rows tr').length === 1")
    state_is(browser, "ready")
    assert text(browser, "#running-count") == "150" and text(browser, "#waiting-count") == "1"
    assert text(browser, "#running-more") == "and 147 more"
    assert text(browser, "#process-rows").split() == [
        "worker-0",
        "starting",
        "4",
        "s",
        "–",
        "9",
        "2",
    ]
    assert text(browser, "#running-rows tr").split() == [
        "0",
        "no",
        "name",
        "100",
        "20",
        "/",
        "60",
        "9",
        "3.2",
        "s",
    ]
    assert "its turn" in text(browser, "#waiting-rows")
    label = browser.run("document.getElementById('map').getAttribute('aria-label')")
    assert label == (
        "Of 64 KV blocks, 20 belong to one request each, 8 are shared, 12 cached, 24 free."
    )
    bar = "document.querySelector('#running-rows [role=progressbar]')"
    assert browser.run(f"{bar}.getAttribute('aria-valuetext')") == "20 / 60 tokens"
    assert browser.run(f"{bar}.firstChild.style.width") == "33.3333%"
    assert "last two minutes" in browser.run(
        "document.querySelector('.tile svg').getAttribute('aria-label')"
    )
    assert browser.problems == []


def test_a_request_stands_out_from_the_keyboard(page: Page) -> None:
    browser, _ = page
    browser.until("document.querySelectorAll('#running-rows tr').length === 3")
    cell = "document.getElementById('map').getContext('2d').getImageData(4, 4, 1, 1).data[3]"
    whole = browser.run(cell)
    browser.run("document.querySelector('#running-rows tr').focus()")
    browser.press("ArrowDown")
    assert browser.run("document.activeElement.matches('tr.on:nth-child(2)')")
    assert browser.run(cell) < whole  # the first cell is of the first request
    time.sleep(1)  # some snapshots later
    assert browser.run("document.activeElement.matches('tr.on:nth-child(2)')")
    assert browser.run("document.querySelectorAll('#running-rows tr[tabindex=\"0\"]').length") == 1


@pytest.mark.parametrize("state", ["draining", "no answer"])
def test_a_stream_that_ends_at_once_is_not_fetched_again_at_once(page: Page, state: str) -> None:
    browser, script = page
    script.short = True
    script.events[:] = [{"state": state}]
    browser.reload()
    state_is(browser, state)
    began, before = time.monotonic(), script.count(EVENTS)
    time.sleep(3)
    assert 2 <= script.count(EVENTS) - before <= time.monotonic() - began + 1
    assert browser.run("document.getElementById('server').className") == "stale"


def test_a_refused_stream_is_not_fetched_again_at_once(page: Page) -> None:
    browser, script = page
    script.broken = True
    browser.reload()
    state_is(browser, "no answer")
    before = script.count(EVENTS)
    time.sleep(3)
    assert 2 <= script.count(EVENTS) - before <= 4
    script.broken = False
    state_is(browser, "ready")
    assert browser.run("document.getElementById('server').className") == ""


def test_what_is_old_looks_old(page: Page) -> None:
    browser, script = page
    state_is(browser, "ready")
    script.events[:] = [{"state": "no answer"}]
    state_is(browser, "no answer")
    browser.until("getComputedStyle(document.getElementById('server')).opacity < 1")
    script.events[:] = [snapshot(state="degraded")]
    state_is(browser, "degraded")
    assert "warn" in browser.run("document.getElementById('state').className")
    browser.until("getComputedStyle(document.getElementById('server')).opacity === '1'")


def test_a_line_that_falls_silent(page: Page) -> None:
    browser, script = page
    state_is(browser, "ready")
    script.silent = True
    state_is(browser, "no answer", 12)


def test_a_page_that_is_not_seen_does_not_watch(page: Page) -> None:
    browser, script = page
    state_is(browser, "ready")
    hide = "Object.defineProperty(document, 'hidden', {{value: {}, configurable: true}});"
    event = "document.dispatchEvent(new Event('visibilitychange'))"
    browser.run(hide.format("true") + event)
    wait_for(lambda: script.watching == 0, 5)
    before = script.count(EVENTS)
    time.sleep(2.5)
    assert script.count(EVENTS) == before
    browser.run(hide.format("false") + event)
    wait_for(lambda: script.count(EVENTS) == before + 1, 5)
    state_is(browser, "ready")


def test_many_tabs_leave_each_other_alone(page: Page) -> None:
    """A browser has six connections to a host, and each stream keeps one."""
    browser, script = page
    tabs = [browser.tab(browser.run("location.href")) for _ in range(8)]
    try:
        wait_for(lambda: script.count("/v1/models") == 9, 20)
        wait_for(lambda: script.watching <= 2, 10)
    finally:
        for tab in tabs:
            browser.close_tab(tab)


# --- keys -----------------------------------------------------------------------------------------
@pytest.fixture
def locked(page: Page) -> Page:
    browser, script = page
    script.keys = {OPERATOR: {EVENTS, "/v1/models", CHAT}, TEAM: {"/v1/models", CHAT}}
    script.fetched.clear()
    browser.reload()
    browser.until("!document.getElementById('login').hidden")
    return page


def give(browser: Browser, key: str) -> None:
    browser.run("document.getElementById('key').focus()")
    browser.run("document.getElementById('key').value = ''")
    browser.type(key)
    browser.press("Enter")


def test_the_key_is_asked_for_once(locked: Page) -> None:
    browser, script = locked
    assert browser.run("document.activeElement.id") == "key"
    browser.run("document.getElementById('theme').focus()")
    time.sleep(2.5)
    assert browser.run("document.activeElement.id") == "theme"
    assert script.count(EVENTS) == 1
    give(browser, "wrong")
    browser.until("document.getElementById('login-error').textContent === 'This key is unknown.'")
    give(browser, OPERATOR)
    state_is(browser, "ready")
    assert browser.run("document.getElementById('login').hidden")


def test_one_who_may_chat_is_not_asked_in_the_playground(locked: Page) -> None:
    browser, script = locked
    script.answers = [[chunk("Hello", "Hello")]]
    give(browser, TEAM)
    browser.until("document.getElementById('login-error').textContent.includes('admin')")
    browser.run("document.getElementById('tab-chat').click()")
    browser.until("document.getElementById('login').hidden")
    browser.run("document.getElementById('text').focus()")
    time.sleep(1.5)
    assert browser.run("document.activeElement.id") == "text"
    assert browser.run("document.getElementById('model').options.length") == 1
    ask(browser, "Hi")
    answered(browser)


# --- the playground -------------------------------------------------------------------------------
def messages(script: Script) -> list[tuple[str, str]]:
    """Of the last question."""
    return [(one["role"], one["content"]) for one in script.asked[-1]["messages"]]


def test_a_new_chat_while_an_answer_comes(page: Page) -> None:
    browser, script = page
    script.pace = 0.1
    script.answers = [[chunk("old ", "old ")] * 50, [chunk("new", "new")]]
    ask(browser, "first")
    browser.until("document.querySelectorAll('.tok').length > 2")
    browser.run("document.getElementById('clear').click()")
    ask(browser, "second")
    answered(browser)
    assert messages(script) == [("user", "second")]
    assert "old" not in text(browser, "#messages")
    wait_for(lambda: script.cut == 1, 10)


def test_what_failed_is_no_part_of_the_talk(page: Page) -> None:
    browser, script = page
    error = {"message": "max_tokens is too large", "param": "max_tokens"}
    script.answers = [(400, error), [chunk("fine", "fine")]]
    ask(browser, "too much")
    browser.until("document.querySelector('.message.error')")
    assert error["message"] in text(browser, "#messages")
    assert browser.run("document.getElementById('text').value") == "too much"
    browser.run("document.getElementById('text').value = ''")
    ask(browser, "less")
    answered(browser)
    assert messages(script) == [("user", "less")]


def test_stop_keeps_what_there_is(page: Page) -> None:
    browser, script = page
    script.pace = 0.1
    script.answers = [[chunk("part ", "part ")] * 50, [chunk("more", "more")]]
    ask(browser, "first")
    browser.until("document.querySelectorAll('.tok').length > 2")
    browser.press("Escape")
    answered(browser)
    wait_for(lambda: script.cut == 1, 10)
    script.pace = 0
    ask(browser, "second")
    answered(browser, 2)
    assert [role for role, _ in messages(script)] == ["user", "assistant", "user"]
    assert messages(script)[1][1].startswith("part part")


def test_tokens_from_the_keyboard(page: Page) -> None:
    browser, script = page
    script.answers = [[chunk("one two three", "one", " two", " three")]]
    ask(browser, "count")
    answered(browser)
    stops = "[...document.querySelectorAll('.tok')].map((one) => one.tabIndex)"
    assert browser.run(stops) == [0, -1, -1]
    browser.run("document.querySelector('.tok').focus()")
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    assert browser.run("document.activeElement.textContent") == " three"
    assert browser.run(stops) == [-1, -1, 0]
    assert "␣three" in text(browser, "#alternatives")
    assert browser.run("document.querySelectorAll('#alternatives tr').length") == 5
    assert browser.run("document.activeElement.getAttribute('aria-describedby')") == "alternatives"
    browser.press("Home")
    assert browser.run("document.activeElement.textContent") == "one"
    browser.press("Escape")
    assert browser.run("document.getElementById('alternatives').hidden")


def test_colours_come_and_go(page: Page) -> None:
    browser, script = page
    script.answers = [[chunk("one two three", "one", " two", " three")]]
    ask(browser, "count")
    answered(browser)
    unlikely = ".tok:nth-child(3)"
    coloured = style(browser, unlikely, "backgroundColor")
    assert coloured != style(browser, ".tok", "backgroundColor")
    browser.run("document.getElementById('colour').click()")
    assert style(browser, unlikely, "backgroundColor") == style(browser, ".said", "backgroundColor")
    browser.run("document.getElementById('colour').click()")
    assert style(browser, unlikely, "backgroundColor") == coloured


def test_reasoning_is_shown_apart(page: Page) -> None:
    browser, script = page
    script.answers = [[chunk("", "hm", reasoning="hm"), chunk("42", "42")]]
    ask(browser, "think")
    answered(browser)
    assert text(browser, ".thought") == "hm" and text(browser, ".said:last-of-type")
    assert style(browser, ".thought", "color") != style(browser, ".assistant .said", "color")
    script.answers = [[chunk("yes", "yes")]]
    ask(browser, "sure?")
    answered(browser, 2)
    assert messages(script)[1] == ("assistant", "42")


def test_sampling(page: Page) -> None:
    browser, script = page
    script.answers = [[chunk("a", "a")], [chunk("a", "a")]]
    ask(browser, "plain")
    answered(browser)
    plain = {"temperature": 0.7, "top_p": 1, "max_tokens": 256, "top_logprobs": 5}
    assert plain.items() <= script.asked[0].items()
    wanted: dict[str, Any] = {
        "temperature": 1.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "seed": 3,
        "top_k": 40,
        "min_p": 0.05,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "repetition_penalty": 1.1,
    }
    assert not wanted.keys() - plain.keys() & script.asked[0].keys()
    for name, value in wanted.items():
        browser.run(f"document.getElementById('{name}').value = {value}")
    browser.run("document.getElementById('stop_strings').value = 'END\\nSTOP'")
    browser.run("document.getElementById('system').value = 'Be brief.'")
    ask(browser, "all of it")
    answered(browser, 2)
    assert (wanted | {"stop": ["END", "STOP"]}).items() <= script.asked[1].items()
    assert messages(script)[0] == ("system", "Be brief.")


def test_a_server_that_gives_no_alternatives(page: Page) -> None:
    browser, script = page
    script.answers = [(400, {"message": "at most 2", "param": "top_logprobs"}), [chunk("a", "a")]]
    ask(browser, "Hi")
    answered(browser)
    assert "top_logprobs" not in script.asked[1] and script.asked[1]["logprobs"] is True


def test_a_server_that_pools_has_no_playground(page: Page) -> None:
    browser, script = page
    script.events[:] = [snapshot(pooling=True)]
    browser.until("document.getElementById('tab-chat').hidden")
    assert browser.run("document.getElementById('try').hidden")


# --- all of it ------------------------------------------------------------------------------------
def test_names_and_texts_are_never_markup(page: Page) -> None:
    browser, script = page
    row = snapshot()["requests"][0]
    process = snapshot()["processes"][0]
    script.models = [HOSTILE]
    script.events[:] = [
        snapshot(
            model=HOSTILE,
            requests=[row | {"tenant": HOSTILE}],
            queue=[{**row, "number": 9, "tenant": HOSTILE, "why": HOSTILE}],
            tenants=[{"name": HOSTILE, "running": 1, "waiting": 1, "tokens": 1}],
            processes=[process | {"name": HOSTILE, "state": HOSTILE}],
        )
    ]
    script.answers = [
        [chunk("", HOSTILE, reasoning=HOSTILE), chunk(HOSTILE, HOSTILE)],
        (400, {"message": HOSTILE, "param": None}),
    ]
    browser.reload()
    browser.until("document.querySelectorAll('#tenant-rows tr').length === 1")
    browser.run("document.querySelector('#running-rows tr').focus()")
    ask(browser, HOSTILE)
    answered(browser)
    browser.run("document.querySelector('.tok').focus()")
    ask(browser, HOSTILE)
    browser.until("document.querySelector('.message.error')")
    assert text(browser, "#messages").count(HOSTILE) == 5
    assert browser.run("document.querySelectorAll('img').length") == 0
    assert not [one for one in browser.problems if "400" not in one]


def test_the_theme_is_the_systems_until_another_is_chosen(page: Page) -> None:
    browser, _ = page
    state_is(browser, "ready")
    theme = "document.documentElement.dataset.theme"
    line = style(browser, ".tile .line", "stroke")
    browser.prefer("dark")
    browser.until(f"{theme} === 'dark'")
    assert style(browser, ".tile .line", "stroke") != line
    assert browser.run("localStorage.length") == 0
    browser.run("document.getElementById('theme').click()")
    assert browser.run(theme) == "light" and browser.run("localStorage.length") == 1
    browser.prefer("light")
    browser.run("document.getElementById('theme').click()")  # dark, and not what the system is
    browser.run("document.getElementById('theme').click()")
    assert browser.run("localStorage.length") == 0


def test_views_from_the_keyboard(page: Page) -> None:
    browser, _ = page
    browser.run("document.getElementById('tab-server').focus()")
    browser.press("ArrowRight")
    assert not browser.run("document.getElementById('chat').hidden")
    assert browser.run("document.activeElement.id") == "tab-chat"
    browser.press("ArrowLeft")
    assert not browser.run("document.getElementById('server').hidden")


def test_a_phone(page: Page) -> None:
    browser, script = page
    name = "a tenant whose name is a very long one, as names of keys may be"
    rows = [one | {"tenant": name} for one in snapshot()["requests"]]
    script.events[:] = [snapshot(requests=rows)]
    browser.resize(390, 844, 2)
    browser.until(f"document.querySelector('#running-rows .name')?.title === '{name}'")
    browser.until("document.getElementById('map').clientWidth < 390")
    for view in ("server", "chat"):
        browser.run(f"document.getElementById('tab-{view}').click()")
        assert browser.run("document.documentElement.scrollWidth") <= 390
    parts = "[...document.querySelectorAll('#state, [role=tab], #theme')]"
    tops = browser.run(f"{parts}.map((one) => one.getBoundingClientRect().top)")
    assert max(tops) - min(tops) < 20
    browser.run("document.getElementById('tab-server').click()")
    assert browser.run("document.querySelector('#running-rows tr').clientWidth") <= 390


def test_the_page_asks_nobody_else(page: Page) -> None:
    browser, _ = page
    browser.hosts.clear()
    browser.reload()
    state_is(browser, "ready")
    assert browser.hosts == {httpx.URL(browser.run("location.href")).netloc.decode()}
