"""--metrics-port: scrapers and probes need no key there, and get nothing else."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from octavo_server import Server, free_port, serving, wait_for
from security import tcp_sockets

KEY = {"Authorization": "Bearer a-key"}


class Two:
    """A server with keys, two frontends and both ports."""

    def __init__(self, server: Server, port: int) -> None:
        self.server = server
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def restarts(self, role: str) -> int:
        """As the page has it."""
        page = httpx.get(f"{self.url}/metrics", timeout=10).text
        name = (
            f'octavo:process_restarts_total{{engine="0",model_name="octavo-demo",process="{role}"}}'
        )
        (line,) = [line for line in page.splitlines() if line.startswith(name)]
        return int(float(line.split()[-1]))

    def frontends(self) -> set[int]:
        children = self.server.children().items()
        return {pid for name, pid in children if name.startswith("frontend")}


@pytest.fixture(scope="module")
def two() -> Iterator[Two]:
    port = free_port()
    flags = ("--device", "cpu", "--frontends", "2", "--metrics-port", str(port))
    with serving(*flags, "--hang-timeout", "5", env={"OCTAVO_API_KEY": "a-key"}) as server:
        yield Two(server, port)


def test_it_asks_for_no_key_where_the_public_port_does(two: Two) -> None:
    assert httpx.get(f"{two.server.url}/metrics").status_code == 401
    page = httpx.get(f"{two.url}/metrics")
    assert page.status_code == 200 and "vllm:num_requests_running" in page.text
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    for path in ("/health", "/health/live", "/health/ready"):
        assert httpx.get(f"{two.url}{path}").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/", "/v1/models", "/ui", "/load", "/openapi.json")),
        *(("POST", path) for path in ("/v1/completions", "/v1/chat/completions", "/metrics")),
        *(("GET", path) for path in ("/metrics/", "//v1/models", "/health/../v1/models")),
    ],
)
def test_nothing_else_is_there(two: Two, method: str, path: str) -> None:
    answer = httpx.request(method, f"{two.url}{path}", headers=KEY, json={"prompt": "x"})
    assert answer.status_code in (404, 405), answer.text


def test_it_says_what_the_public_port_says(two: Two) -> None:
    for _ in range(4):
        body = {"prompt": "x", "max_tokens": 3}
        answer = httpx.post(f"{two.server.url}/v1/completions", json=body, headers=KEY)
        assert answer.status_code == 200
    pages = [
        httpx.get(f"{url}/metrics", headers=KEY).text.splitlines()
        for url in (two.url, two.server.url)
    ]
    ended = [[line for line in page if "request_success_total{" in line] for page in pages]
    assert ended[0] == ended[1] and any(line.endswith(" 4.0") for line in ended[0])


def test_two_ports_and_no_third(two: Two) -> None:
    tree = [two.server.process.pid, *two.server.children().values()]
    listening = {one.local for one in tcp_sockets(tree) if one.listens}
    assert listening == {two.server.port, two.port}


def test_it_stays_open_while_frontends_are_replaced(two: Two) -> None:
    old = two.frontends()
    command = [sys.executable, "-P", "-m", "octavo.services.launch", "admin", "restart-frontends"]
    asked = subprocess.run([*command, "--port", str(two.server.port)], capture_output=True)
    assert asked.returncode == 0, asked.stderr

    def replaced() -> bool:
        assert httpx.get(f"{two.url}/health").status_code == 200
        return not old & two.frontends() and len(two.frontends()) == 2

    wait_for(replaced, 60)
    assert httpx.get(f"{two.url}/metrics").status_code == 200


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)]
)
def test_the_exporter_dies_or_hangs_and_no_stream_notices(two: Two, number: signal.Signals) -> None:
    """A scrape meanwhile waits for the next one."""
    body = {"prompt": "x", "max_tokens": 300, "ignore_eos": True, "seed": 1}
    undisturbed = httpx.post(f"{two.server.url}/v1/completions", json=body, headers=KEY, timeout=60)
    old, deaths = two.server.children(), two.restarts("exporter")
    with httpx.stream(
        "POST",
        f"{two.server.url}/v1/completions",
        json=body | {"stream": True},
        headers=KEY,
        timeout=60,
    ) as stream:
        lines = stream.iter_lines()
        first = next(lines)
        os.kill(old["exporter-0"], number)
        wait_for(
            lambda: two.server.children().get("exporter-0") not in (None, old["exporter-0"]), 30
        )
        assert httpx.get(f"{two.url}/metrics", timeout=10).status_code in (200, 503)
        wait_for(lambda: httpx.get(f"{two.url}/health").status_code == 200, 10)
        events = [line.removeprefix("data: ") for line in (first, *lines) if line]
    assert events.pop() == "[DONE]"
    text = "".join(json.loads(event)["choices"][0]["text"] for event in events)
    assert text == undisturbed.json()["choices"][0]["text"]
    assert two.restarts("exporter") == deaths + 1
    new = two.server.children()
    assert {name for name, pid in new.items() if pid != old[name]} == {"exporter-0"}


def test_another_scheduler_is_scraped_as_well(two: Two) -> None:
    os.kill(two.server.children()["scheduler-0"], signal.SIGKILL)
    wait_for(lambda: httpx.get(f"{two.url}/health").status_code == 503, 10)
    wait_for(lambda: httpx.get(f"{two.url}/health").status_code == 200, 30)
    assert two.restarts("scheduler") == 1


def test_it_is_listed_where_the_others_are(two: Two) -> None:
    command = [sys.executable, "-P", "-m", "octavo.services.launch", "status", "--once"]
    shown = subprocess.run(
        [*command, "--url", two.server.url, "--api-key", "a-key"], capture_output=True, text=True
    )
    assert "exporter-0" in shown.stdout, shown.stderr


def test_a_draining_server_still_counts(two: Two) -> None:
    with httpx.stream(
        "POST",
        f"{two.server.url}/v1/completions",
        json={"prompt": "x", "max_tokens": 2000, "ignore_eos": True, "stream": True},
        headers=KEY,
        timeout=60,
    ) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("data: ")
        two.server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(f"{two.url}/health").status_code == 503, 10)
        assert "vllm:num_requests_running" in httpx.get(f"{two.url}/metrics").text


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-P", "-m", "octavo.services.launch", "serve"]
        ended = subprocess.run(
            [*command, "--port", "0", "--metrics-port", port], capture_output=True, text=True
        )
    assert ended.returncode == 75
    assert "choose another with --metrics-port" in ended.stderr
