"""/ui: its routes and its feed, and, marked slow, the page in a headless Chromium.

OCTAVO_TEST_SCREENSHOTS=1 writes docs/images/ui-*.png anew.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser import Browser, chromium
from octavo_server import Server, serving, wait_for

from octavo.services.frontend.live.parts import PARTS

SMALL = (
    *("--device", "cpu", "--max-num-seqs", "30", "--kv-cache-memory-bytes", "64M"),
    *("--served-model-name", "octavo-demo"),
)
"""Few enough KV blocks to see each."""
STORY, STORY_SEED = "Tell me a long story about a tractor.", 4
"""Which it is not sure about."""
PROCESSES = "[...document.querySelectorAll('#process-rows tr')]"
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
def load(server: Server, clients: int = 6, longest: int = 700) -> Iterator[None]:
    """Long answers, one after another, of four users, whose prompts begin alike."""
    over = threading.Event()

    def ask(number: int) -> None:
        body = {
            "prompt": [9, 8, 7, 6] * 30 + [number + 20] * (60 + number * 37 % 200),
            "max_tokens": longest - number * 17 % (longest // 2),
            "ignore_eos": True,
            "user": f"user-{number % 4}",
            "stream": True,
        }
        url = f"{server.url}/v1/completions"
        while not over.is_set():
            with (
                contextlib.suppress(httpx.HTTPError),
                httpx.stream("POST", url, json=body, timeout=60) as answer,
            ):
                for _ in answer.iter_lines():
                    if over.is_set():
                        break
            over.wait(0.1)

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
    assert idle["state"] == "ready"
    assert (idle["running"], idle["requests"], idle["blocks"]["used"]) == (0, [], 0)
    with load(server, 3):
        wait_for(lambda: server.metric("vllm:num_requests_running") == 3, 10)
        _, busy = snapshots(server, 2)  # the first may be a moment old
        assert busy["running"] == len(busy["requests"]) == 3
        assert sorted(one["prompt"] for one in busy["requests"]) == [180, 217, 254]
        in_flight = 2
        for one in busy["requests"]:
            assert one["computed"] < one["prompt"] + one["outputs"] + in_flight
        assert len({one["colour"] for one in busy["requests"]}) == 3
        assert len(base64.b64decode(busy["map"])) == busy["blocks"]["total"] <= 4096
        assert [one["running"] for one in busy["tenants"]] == [1, 1, 1]
        assert "Tell" not in json.dumps(busy)
    server.wait_idle()


def test_a_snapshot_names_the_processes(server: Server) -> None:
    [found] = snapshots(server)
    processes = {one["name"]: one for one in found["processes"]}
    pids = server.children() | {"supervisor": server.process.pid}
    assert {name: one["pid"] for name, one in processes.items()} == pids
    for one in processes.values():
        assert (one["state"], one["restarts"]) == ("ready", 0)
        assert one["seconds"] > 0 and one["bytes"] > 2**20


def test_the_stream_ends_with_the_server() -> None:
    with serving("--device", "cpu", "--shutdown-timeout", "20") as server:
        seen: list[str] = []

        def watch() -> None:
            with httpx.stream("GET", f"{server.url}/ui/events", timeout=10) as answer:
                seen.extend(line for line in answer.iter_lines() if line)

        watching = threading.Thread(target=watch)
        watching.start()
        wait_for(lambda: seen, 10)
        assert server.stop(seconds=10) == 0
        watching.join(5)
        assert not watching.is_alive()
        assert seen[-1].startswith('data: {"state":"draining"')


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    keys.write_text(KEYS)
    with serving("--device", "cpu", "--api-key-file", str(keys)) as server:
        yield server


def test_who_may_watch(keyed: Server) -> None:
    """The page without anything in it opens; what it shows is for operators."""
    for path in ("/ui", *(f"/ui/{part}" for part in PARTS)):
        answer = httpx.get(keyed.url + path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert httpx.get(f"{keyed.url}/ui/feed.py").status_code == 401
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
        time.sleep(1)  # all has been drawn anew
        browser.picture(IMAGES / f"ui-{name}.png")


@pytest.mark.slow
@needs_chromium
def test_in_a_browser(browser: Browser) -> None:
    """Under load, in all its looks. With OCTAVO_TEST_SCREENSHOTS for long enough that two minutes
    of history are not empty."""
    long = bool(os.environ.get("OCTAVO_TEST_SCREENSHOTS"))
    clients, longest = (36, 120) if long else (6, 700)
    with serving(*SMALL) as server, load(server, clients, longest):
        browser.prefer("dark")
        browser.resize(1280, 940)
        browser.open(f"{server.url}/ui")
        browser.until("document.querySelectorAll('#running-rows tr').length >= 6")
        browser.until("Number(document.getElementById('map').dataset.used) > 3")
        for _ in range(100 if long else 3):
            time.sleep(1)
            browser.run("1")
        state_is(browser, "ready")
        shoot(browser, "dark")
        browser.prefer("light")
        shoot(browser, "light")
        browser.resize(390, 844, 2)
        assert browser.run("document.documentElement.scrollWidth") <= 390
        shoot(browser, "phone")
        assert browser.problems == []
        assert browser.hosts == {f"127.0.0.1:{server.port}"}


@pytest.mark.slow
@needs_chromium
def test_the_playground_in_a_browser(server: Server, browser: Browser) -> None:
    """By the keyboard alone."""
    browser.prefer("light")
    browser.resize(1280, 860)
    browser.open(f"{server.url}/ui")
    browser.until("document.getElementById('model').options.length")
    browser.run("document.getElementById('tab-server').focus()")
    browser.press("ArrowRight")
    ask(browser, "What is 12 + 30?", temperature=0)
    assert "42" in browser.run("document.querySelector('.message:last-child').textContent")
    ask(browser, STORY, temperature=1.4, seed=STORY_SEED)
    browser.run("document.querySelector('.message:last-child .tok').focus()")
    unlikely = "document.activeElement.matches('.p3, .p4')"
    for _ in range(150):
        browser.press("ArrowRight")
        if browser.run(f"{unlikely} && document.activeElement.textContent.length > 3"):
            break
    assert browser.run(unlikely)
    browser.until("document.querySelectorAll('#alternatives tr').length === 5")
    shoot(browser, "playground")
    assert browser.problems == []


@pytest.mark.slow
@needs_chromium
def test_stop_stops_the_server(server: Server, browser: Browser) -> None:
    """Its worker stands still meanwhile, so that the answer cannot end by itself."""
    browser.open(f"{server.url}/ui")
    browser.run("document.getElementById('tab-chat').click()")
    server.wait_idle()
    before = aborted(server)
    worker = server.children()["worker-0"]
    os.kill(worker, signal.SIGSTOP)
    try:
        browser.run("document.getElementById('text').focus()")
        browser.type("Tell me a long story")
        browser.press("Enter")
        wait_for(lambda: server.metric("vllm:num_requests_running") == 1, 10)
        browser.press("Escape")
        wait_for(lambda: server.metric("vllm:num_requests_running") == 0, 10)
    finally:
        os.kill(worker, signal.SIGCONT)
    assert aborted(server) == before + 1


def aborted(server: Server) -> float:
    _, text = server.request("GET", "/metrics")
    values = re.findall(rb'^vllm:request_success_total{.*"abort".*} (\S+)$', text, re.M)
    return sum(map(float, values))


@pytest.mark.slow
@needs_chromium
def test_processes_die_under_the_page(browser: Browser) -> None:
    """Each time the page says so, comes back, and counts it."""
    with serving("--device", "cpu", "--frontends", "2", "--hang-timeout", "30") as server:
        browser.open(f"{server.url}/ui")
        state_is(browser, "ready")
        for victim in ("worker-0", "scheduler-0", "frontend-0", "frontend-1"):
            os.kill(server.children()[victim], signal.SIGKILL)
            if victim == "worker-0":
                state_is(browser, "degraded")
            row = f"{PROCESSES}.find((one) => one.firstChild.textContent === '{victim}')"
            browser.until(f"{row}?.lastChild.textContent === '1'", 40)
            browser.until(f"{row}?.className === 'good'", 40)
            state_is(browser, "ready")


@pytest.mark.slow
@needs_chromium
def test_a_scheduler_that_stands_still(browser: Browser) -> None:
    with serving("--device", "cpu") as server:
        browser.open(f"{server.url}/ui")
        state_is(browser, "ready")
        scheduler = server.children()["scheduler-0"]
        os.kill(scheduler, signal.SIGSTOP)
        state_is(browser, "no answer")
        assert browser.run("document.getElementById('server').className") == "stale"
        os.kill(scheduler, signal.SIGCONT)
        state_is(browser, "ready")
        assert browser.run("document.getElementById('server').className") == ""


@pytest.mark.slow
@needs_chromium
def test_a_server_drains_under_the_page(browser: Browser) -> None:
    """It is shown to the end, and not asked too often."""
    with serving("--device", "cpu", "--shutdown-timeout", "8") as server, load(server, 2):
        browser.open(f"{server.url}/ui")
        browser.until("document.querySelectorAll('#running-rows tr').length === 2")
        server.process.send_signal(signal.SIGTERM)
        state_is(browser, "draining")
        began, before = time.monotonic(), browser.requests("/ui/events")
        time.sleep(4)
        assert browser.requests("/ui/events") - before <= time.monotonic() - began + 1
        assert browser.run("document.getElementById('state').textContent") == "draining"
        assert browser.run("document.querySelectorAll('#running-rows tr').length") == 2


@pytest.mark.slow
@needs_chromium
def test_the_key_is_asked_for(keyed: Server, browser: Browser) -> None:
    browser.open(f"{keyed.url}/ui")
    browser.until("!document.getElementById('login').hidden")
    browser.type("operator-key-operator-key")
    browser.press("Enter")
    state_is(browser, "ready")


def state_is(browser: Browser, state: str) -> None:
    browser.until(f"document.getElementById('state').textContent === '{state}'", 40)


def ask(browser: Browser, text: str, **fields: float) -> None:
    """And wait for the answer's end."""
    for name, value in fields.items():
        browser.run(f"document.getElementById('{name}').value = {value}")
    number = browser.run("document.querySelectorAll('.figures').length")
    browser.run("document.getElementById('text').focus()")
    browser.type(text)
    browser.press("Enter")
    browser.until(f"document.querySelectorAll('.figures').length === {number + 1}", 60)
