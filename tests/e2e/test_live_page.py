"""/ui: its routes and its feed, and, marked slow, the page in a headless Chromium.

OCTAVO_TEST_SCREENSHOTS=1 writes docs/images/ui-*.png anew.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser import Browser, chromium
from octavo_server import Server, serving, wait_for

IMAGES = Path(__file__).parent.parent.parent / "docs" / "images"
KEYS = """
[keys.operator]
key = "operator-key-operator-key"
scopes = ["admin"]
[keys.team]
key = "team-key-team-key-team-key"
scopes = ["generate"]
"""


def snapshots(server: Server, count: int = 1, key: str = "") -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    found: list[dict[str, Any]] = []
    with httpx.stream("GET", f"{server.url}/ui/events", headers=headers, timeout=10) as answer:
        assert answer.status_code == 200, answer.status_code
        for line in answer.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
            if len(found) == count:
                break
    return found


@contextmanager
def load(server: Server, clients: int = 6) -> Iterator[None]:
    """Long answers, one after another, of two users."""
    over = threading.Event()

    def ask(number: int) -> None:
        while not over.is_set():
            body = {
                "prompt": [9, 8, 7] * 40 + [number] * 60,
                "max_tokens": 700,
                "ignore_eos": True,
                "user": f"user-{number % 2}",
                "stream": True,
            }
            url = f"{server.url}/v1/completions"
            with httpx.stream("POST", url, json=body, timeout=60) as answer:
                for _ in answer.iter_lines():
                    if over.is_set():
                        break

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_snapshot_of_a_known_load(server: Server) -> None:
    server.wait_idle()
    [idle] = snapshots(server)
    assert (idle["running"], idle["requests"], idle["blocks"]["used"]) == (0, [], 0)
    with load(server, 3):
        wait_for(lambda: server.metric("vllm:num_requests_running") == 3, 10)
        _, busy = snapshots(server, 2)  # the first may be a moment old
        assert busy["running"] == len(busy["requests"]) == 3
        assert sorted(one["prompt"] for one in busy["requests"]) == [180] * 3
        in_flight = 2
        assert all(one["computed"] < 180 + one["outputs"] + in_flight for one in busy["requests"])
        assert len({one["colour"] for one in busy["requests"]}) == 3
        assert sum(busy["map"][1::2]) == -(-busy["blocks"]["total"] // 3) <= 4096
        assert {one["running"] for one in busy["tenants"]} == {1, 2}
        assert "worker-0" in busy["processes"] and busy["restarts"]["worker"] == 0
        assert "Tell" not in json.dumps(busy)
    server.wait_idle()


def test_the_stream_ends_with_the_server() -> None:
    with serving("--device", "cpu", "--shutdown-timeout", "20") as server:
        begun = threading.Event()

        def watch() -> None:
            with httpx.stream("GET", f"{server.url}/ui/events", timeout=10) as answer:
                for _ in answer.iter_lines():
                    begun.set()

        watching = threading.Thread(target=watch)
        watching.start()
        assert begun.wait(10)
        assert server.stop(seconds=10) == 0
        watching.join(5)
        assert not watching.is_alive()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    keys.write_text(KEYS)
    with serving("--device", "cpu", "--api-key-file", str(keys)) as server:
        yield server


def test_who_may_watch(keyed: Server) -> None:
    """The page without anything in it opens; what it shows is for operators."""
    for path in ("/ui", "/ui/page.js", "/ui/page.css"):
        answer = httpx.get(keyed.url + path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    for key, status in (("", 401), ("team-key-team-key-team-key", 403)):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        assert httpx.get(f"{keyed.url}/ui/events", headers=headers).status_code == status
    assert snapshots(keyed, 2, "operator-key-operator-key")


needs_chromium = pytest.mark.skipif(chromium() is None, reason="chromium is not installed")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    made = Browser(tmp_path)
    yield made
    made.close()


def shoot(browser: Browser, name: str) -> None:
    if os.environ.get("OCTAVO_TEST_SCREENSHOTS"):
        browser.picture(IMAGES / f"ui-{name}.png")


@pytest.mark.slow
@needs_chromium
def test_in_a_browser(server: Server, browser: Browser) -> None:
    with load(server):
        browser.resize(1280, 940)
        browser.open(f"{server.url}/ui")
        browser.run("setTheme('dark')")
        browser.until("document.querySelectorAll('#requests tr').length >= 6")
        browser.until("Number(document.getElementById('map').dataset.used) > 3")
        browser.until("history.tokens.filter(Boolean).length > 12", 30)
        assert browser.run("document.getElementById('state').textContent") == "ready"
        shoot(browser, "dark")
        browser.run("setTheme('light')")
        shoot(browser, "light")
        browser.resize(360, 780)
        assert browser.run("document.documentElement.scrollWidth") <= 360
        shoot(browser, "phone")
        browser.resize(1280, 940)
    chat(browser)
    browser.resize(360, 780)
    assert browser.run("document.documentElement.scrollWidth") <= 360
    assert browser.problems == []
    assert browser.hosts == {f"127.0.0.1:{server.port}"}


def chat(browser: Browser) -> None:
    """By the keyboard alone."""
    browser.run("document.getElementById('tab-server').focus()")
    browser.press("ArrowRight")
    browser.until("!document.getElementById('chat').hidden")
    browser.run("document.getElementById('temperature').value = 0")
    browser.run("document.getElementById('text').focus()")
    browser.type("What is 12 + 30?")
    browser.press("Enter")
    browser.until("document.getElementById('stats').textContent.includes('tokens')")
    text = browser.run("document.querySelector('.message:last-child').textContent")
    assert "42" in text
    browser.run("document.querySelector('.message:last-child .tok').focus()")
    browser.until("document.querySelectorAll('#token tr').length === 5")
    shoot(browser, "playground")
    browser.run("document.getElementById('text').focus()")
    browser.type("<img src=x onerror=alert(1)> Tell me a long story")
    browser.press("Enter")
    browser.press("Escape")
    browser.until("document.getElementById('stop').disabled")
    assert browser.run("document.querySelectorAll('#messages img').length") == 0


@pytest.mark.slow
@needs_chromium
def test_the_key_is_asked_for(keyed: Server, browser: Browser) -> None:
    browser.open(f"{keyed.url}/ui")
    browser.until("!document.getElementById('login').hidden")
    browser.run("document.getElementById('key').focus()")
    browser.type("operator-key-operator-key")
    browser.press("Enter")
    browser.until("document.getElementById('state').textContent === 'ready'")
