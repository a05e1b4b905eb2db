"""Rules, alerts and dashboards, on the real Prometheus (Debian's package `prometheus`)."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dashboards
import httpx
import pytest
from octavo_server import Server, free_port, serving, wait_for

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
needs = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="Debian's package prometheus is not installed"
)


def promtool(*arguments: str) -> str:
    command = ["promtool", *arguments]
    ended = subprocess.run(command, cwd=DEPLOY / "prometheus", capture_output=True, text=True)
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
        for line in (DEPLOY / "prometheus" / "rules.yml").read_text().splitlines()
        if "- alert:" in line
    }
    tested = (DEPLOY / "prometheus" / "rules_test.yml").read_text()
    assert all(f"alertname: {alert}" in tested for alert in alerts)


class Prometheus:
    """Scrapes a server every second, with the rules of deploy/."""

    def __init__(self, server: Server, folder: Path) -> None:
        rules = DEPLOY / "prometheus" / "rules.yml"
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [
                {
                    "job_name": "octavo",
                    "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}],
                }
            ],
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

    def query(self, text: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": text}).json()
        assert answer["status"] == "success", (text, answer)
        return list(answer["data"]["result"])

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready").status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def load(server: Server) -> Iterator[None]:
    """Requests one after another, of four clients, some of them bad."""
    over = threading.Event()

    def ask(number: int) -> None:
        body = {"prompt": "Tell me", "max_tokens": 40, "ignore_eos": True, "user": f"u{number}"}
        while not over.is_set():
            server.request("POST", "/v1/completions", body)
            server.request("POST", "/v1/completions", b"{")

    clients = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for client in clients:
        client.start()
    yield
    over.set()
    for client in clients:
        client.join()


@pytest.mark.slow
@needs
def test_no_panel_is_empty(tmp_path: Path) -> None:
    """Every query of every dashboard, and every recorded rule, over a server under load."""
    with serving("--device", "cpu") as server, load(server):
        prometheus = Prometheus(server, tmp_path)
        try:
            wait_for(prometheus.ready, 20)
            time.sleep(15)
            for query in [*panel_queries(), *recorded()]:
                assert prometheus.query(query), query
            targets = httpx.get(f"{prometheus.url}/api/v1/targets").json()["data"]
            assert targets["activeTargets"][0]["lastScrapeDuration"] < 0.2
        finally:
            prometheus.process.terminate()
            prometheus.process.wait(10)


def panel_queries() -> list[str]:
    found = []
    for rows in dashboards.DASHBOARDS.values():
        for panel in (panel for row in rows for panel in row):
            for query in panel.queries.values():
                asked = query.replace("$__rate_interval", "10s").replace("$instance", ".*")
                found.append(asked)
    return found


def recorded() -> list[str]:
    lines = (DEPLOY / "prometheus" / "rules.yml").read_text().splitlines()
    return [line.split()[-1] for line in lines if "- record:" in line]
