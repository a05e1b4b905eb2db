"""Rules, alerts and dashboards, on the real Prometheus (Debian's package `prometheus`)."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dashboards
import httpx
import pytest
import yaml
from octavo_server import Server, free_port, serving, wait_for

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
FOLDER = DEPLOY / "prometheus"
needs = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="Debian's package prometheus is not installed"
)


def promtool(*arguments: str) -> str:
    command = ["promtool", *arguments]
    ended = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_dashboards_are_what_the_tool_makes() -> None:
    for name, rows in dashboards.DASHBOARDS.items():
        written = json.loads((dashboards.FOLDER / f"{name}.json").read_text())
        assert written == json.loads(json.dumps(dashboards.dashboard_json(name, rows)))


@needs
def test_rules_are_sound() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "rules.yml")


@needs
def test_each_alert_has_a_case_that_passes() -> None:
    promtool("test", "rules", "rules_test.yml")
    alerts = {
        line.split()[-1]
        for line in (FOLDER / "rules.yml").read_text().splitlines()
        if "- alert:" in line
    }
    tested = (FOLDER / "rules_test.yml").read_text()
    assert all(f"alertname: {alert}" in tested for alert in alerts)


class Prometheus:
    """A real one, of Debian's package, with the rules of deploy/."""

    def __init__(self, jobs: list[dict[str, Any]], folder: Path) -> None:
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(FOLDER / "rules.yml")],
            "scrape_configs": jobs,
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stderr=subprocess.DEVNULL,
        )

    def values(self, text: str) -> list[float]:
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": text}).json()
        assert answer["status"] == "success", (text, answer)
        return [float(one["value"][1]) for one in answer["data"]["result"]]

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready").status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def prometheus(jobs: list[dict[str, Any]], folder: Path) -> Iterator[Prometheus]:
    made = Prometheus(jobs, folder)
    try:
        wait_for(made.ready, 20)
        yield made
    finally:
        made.process.terminate()
        made.process.wait(10)


TIGHT = ("--max-model-len", "256", "--kv-cache-memory-bytes", "3M", "--max-num-seqs", "4")
"""512 tokens of KV, so that the clients' requests wait, and push each other out."""
CLIENTS = 8


@contextmanager
def load(server: Server) -> Iterator[None]:
    """Requests of clients who say the same first, one after another; some of them are bad, some
    too many, some late."""
    over = threading.Event()
    bodies: list[Any] = [
        {"prompt": [7, 8, 9, 10] * 16, "max_tokens": 120, "ignore_eos": True},
        {"prompt": [7, 8, 9, 10] * 16, "max_tokens": 120, "ignore_eos": True, "n": 2},
        {"prompt": "late", "max_tokens": 100, "deadline_ms": 1},
        b"{",
    ]

    def ask() -> None:
        for body in itertools.cycle(bodies):
            if over.is_set():
                return
            server.request("POST", "/v1/completions", body)

    clients = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        over.set()
        for client in clients:
            client.join()


def job(server: Server) -> dict[str, Any]:
    targets = [{"targets": [f"127.0.0.1:{server.port}"]}]
    return {"job_name": "octavo", "static_configs": targets}


CALM = {
    *("Outputs that are not numbers", "Steps tried again", "Kernels compiled while serving"),
    *("Restarts", "Requests computed again", "Refused: a key's limits"),
}
"""Panels where this load has nothing to show; all others must show something."""


def lacking(found: Prometheus, calm: set[str]) -> list[str]:
    """Panels and recorded rules that show nothing, or what is no number, or only zeros."""
    odd = []
    for title, query in panel_queries():
        values = found.values(query)
        if not values or any(map(math.isnan, values)) or not (title in calm or sum(values) > 0):
            odd.append(f"{title}: {query} -> {values}")
    for query in recorded():
        values = found.values(query)
        if not values or any(map(math.isnan, values)):
            odd.append(f"{query} -> {values}")
    return odd


def all_show(found: Prometheus, calm: set[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (odd := lacking(found, calm)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not odd, "\n".join(odd)


@needs
def test_every_panel_shows_the_load(tmp_path: Path) -> None:
    """Every query of every dashboard, and every recorded rule, over a server under load."""
    flags = ("--device", "cpu", *TIGHT, "--max-queued-requests", "10")
    with (
        serving(*flags) as server,
        prometheus([job(server)], tmp_path) as found,
        load(server),
    ):
        all_show(found, CALM, 60)


@pytest.mark.slow
@needs
def test_panels_show_a_death(tmp_path: Path) -> None:
    with (
        serving("--device", "cpu", *TIGHT, "--max-queued-requests", "10") as server,
        prometheus([job(server)], tmp_path) as found,
        load(server),
    ):
        all_show(found, CALM, 60)
        os.kill(server.children()["worker-0"], signal.SIGKILL)
        all_show(found, CALM - {"Restarts", "Requests computed again"}, 90)
        # Each begins again with the scheduler, and none goes down otherwise.
        os.kill(server.children()["scheduler-0"], signal.SIGKILL)
        all_show(found, CALM - {"Restarts"}, 90)
        restarts = "sum(max_over_time(octavo:process_restarts_total[1m]))"
        assert found.values(restarts) == found.values("sum(octavo:process_restarts_total)") == [2]


@needs
def test_a_certificate_that_ends_soon_is_noticed(tmp_path: Path) -> None:
    """By the job that is shipped, through a real blackbox exporter."""
    exporter = shutil.which("prometheus-blackbox-exporter")
    if exporter is None or shutil.which("openssl") is None:
        pytest.skip("Debian's prometheus-blackbox-exporter, or openssl, is not installed")
    shipped = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    (watched,) = [one for one in shipped if one["job_name"] == "certificates"]
    port = free_port()
    text = json.dumps(watched).replace("blackbox:9115", f"127.0.0.1:{port}")
    with tls_server(tmp_path, days=10) as address:
        (tmp_path / "certificates.yml").write_text(json.dumps([{"targets": [address]}]))
        command = [exporter, f"--config.file={FOLDER}/blackbox.yml"]
        command.append(f"--web.listen-address=127.0.0.1:{port}")
        probing = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            # The exporter takes half a second off what it is given.
            jobs = [json.loads(text) | {"scrape_interval": "2s", "scrape_timeout": "2s"}]
            with prometheus(jobs, tmp_path) as found:
                alert = f'ALERTS{{alertname="OctavoCertificateExpires", instance="{address}"}}'
                wait_for(lambda: found.values(alert), 30)
        finally:
            probing.terminate()
            probing.wait(10)


@contextmanager
def tls_server(folder: Path, days: int) -> Iterator[str]:
    """Its address; it shakes hands, and that is all."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"]
    command += ["-days", str(days), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet, args=(listener, context), daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def greet(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, suppress(OSError):
            context.wrap_socket(connection, server_side=True).close()


def panel_queries() -> list[tuple[str, str]]:
    """(title, query) of what Grafana is given, as it asks."""
    found = []
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                asked = target["expr"].replace("$__rate_interval", "10s").replace("$instance", ".*")
                named = f"{panel['title']}: {target['legendFormat']}"
                found.append((named if named in CALM else panel["title"], asked))
    assert len(found) > 40
    return found


def recorded() -> list[str]:
    lines = (FOLDER / "rules.yml").read_text().splitlines()
    return [line.split()[-1] for line in lines if "- record:" in line]
