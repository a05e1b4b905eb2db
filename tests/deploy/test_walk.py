"""A walk through docs/deploy.md by its own commands, on a machine without Docker.

What is installed goes below a folder, units are started by a small stand-in for systemd, and the
model is the bundled one. HAProxy, nginx, Prometheus and systemd's own tools are the real ones.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from octavo_server import wait_for
from small_systemd import Systemd, below, program

ROOT = Path(__file__).parent.parent.parent
GUIDE = (ROOT / "docs" / "deploy.md").read_text()
BLOCKS = re.findall(r"```\n(.*?)```", GUIDE, re.DOTALL)
ELSEWHERE = ("apt", "docker", "kubectl", "python3", "/opt/octavo/bin/pip")
"""What this machine has not, or has already."""
NEEDED = ("haproxy", "nginx", "prometheus", "promtool", "systemd-analyze", "systemd-sysusers")
PORTS = (8000, 8080, 8101, 8102, 8201, 8202, 8405, 9090)
PRELUDE = """\
set -eu
systemctl() { "$SYSTEMCTL" "$@"; }
systemd-sysusers() { command systemd-sysusers --root="$ROOT" "$@"; }
systemd-tmpfiles() { command systemd-tmpfiles --root="$ROOT" "$@"; }
install() { local a=(); for w in "$@"; do [ "$w" = octavo ] || a+=("$w"); done
            command install "${a[@]/#-g/-p}"; }
nginx() { command nginx -t -c "$3"; }
"""

needs_programs = pytest.mark.skipif(
    os.getuid() != 0 or any(shutil.which(name) is None for name in NEEDED),
    reason="installs as root, and runs " + ", ".join(NEEDED),
)


def runnable(block: str) -> str:
    """Without the lines of what is elsewhere."""
    kept = [
        line
        for line in block.splitlines()
        if not re.sub(r"^\w+=\S+ ", "", line).startswith(ELSEWHERE)
    ]
    return "\n".join(kept)


class Walk:
    """A copy of the files, a root to install to, and what was started."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.files = folder / "octavo"
        shutil.copytree(ROOT / "deploy", self.files / "deploy")
        for name in ("etc/default", "etc/haproxy", "etc/nginx", "etc/prometheus", "run"):
            (self.root / name).mkdir(parents=True)
        program(self.root / "opt/octavo/bin/octavo")
        # Of what is said to be replaced: the model.
        options = self.files / "deploy/systemd/octavo.toml"
        lines = options.read_text().splitlines()
        kept = [line for line in lines if not line.startswith(("model", "served", "max-model"))]
        options.write_text("\n".join(['device = "cpu"', *kept, ""]))
        for file in (self.files / "deploy/nginx").iterdir():
            file.write_text(
                file.read_text().replace("/run/nginx.pid", f"{self.root}/run/nginx.pid")
            )
        self.systemd = Systemd(
            self.root,
            {
                "haproxy": (
                    ["haproxy", "-f", f"{self.root}/etc/haproxy/haproxy.cfg"],
                    "/etc/default/haproxy",
                ),
                "nginx": (
                    ["nginx", "-g", "daemon off;", "-c", f"{self.root}/etc/nginx/nginx.conf"],
                    "/none",
                ),
                "prometheus": (
                    [
                        "prometheus",
                        f"--config.file={self.root}/etc/prometheus/prometheus.yml",
                        f"--storage.tsdb.path={folder}/tsdb",
                    ],
                    "/none",
                ),
            },
        )
        self._asks = folder / "systemctl"
        self._asks.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n')
        self._asks.chmod(0o755)
        self._asked = folder / "asked"

    def run(self, block: str) -> str:
        """Line by line, so that what systemctl is asked for is done before the next."""
        said = ""
        for step in steps(runnable(block)):
            script = PRELUDE + below(self.root, step)
            environ = {**os.environ, "ROOT": str(self.root), "SYSTEMCTL": str(self._asks)}
            ended = subprocess.run(
                ["bash", "-c", script], cwd=self.files, env=environ, capture_output=True, text=True
            )
            said += ended.stdout + ended.stderr
            assert ended.returncode == 0, (step, said)
            self._obey()
        return said

    def _obey(self) -> None:
        asked = self._asked.read_text().splitlines() if self._asked.exists() else []
        self._asked.unlink(missing_ok=True)
        for line in asked:
            self.systemd.do(*line.split())


def steps(block: str) -> list[str]:
    """A line each, but for loops."""
    return re.findall(r"^for (?:.|\n)*?\bdone$|^.+$", block, re.M)


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    for port in PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"port {port} is in use")
    walk = Walk(tmp_path)
    yield walk
    for unit in list(walk.systemd.running):
        walk.systemd.stop(unit)


def block_with(text: str) -> str:
    found: list[str] = [block for block in BLOCKS if text in block]
    assert len(found) == 1, text
    return found[0]


@pytest.mark.slow
@needs_programs
def test_walk(walk: Walk) -> None:
    walk.run(block_with("octavo.sysusers"))
    said = walk.run(block_with("check-config"))
    assert "port = 8000" in said and '"state": "ready"' in said
    assert (walk.root / "etc/octavo/octavo.env").stat().st_mode & 0o777 == 0o600
    exposure = re.search(
        r"exposure level for octavo.service: ([\d.]+)", walk.run(block_with("security"))
    )
    assert exposure is not None and f"says {exposure[1]} (OK)" in GUIDE
    assert '"state": "ready"' in walk.run(block_with("enable --now octavo@1 octavo@2"))
    assert set(walk.systemd.running) == {"octavo@1", "octavo@2"}
    walk.run(block_with("haproxy -c -f"))
    wait_for(lambda: httpx.get("http://127.0.0.1:8080/health/ready").status_code == 200, 10)
    assert "octavo-demo" in walk.run(block_with("curl"))
    walk.run(block_with("restart octavo@$n"))
    assert httpx.get("http://127.0.0.1:8080/health/ready").status_code == 200
    walk.run(block_with("promtool check config"))
    targets = {"127.0.0.1:8201", "127.0.0.1:8202", "127.0.0.1:8405"}
    wait_for(lambda: targets <= scraped(), 30)
    walk.systemd.stop("haproxy")
    walk.run(block_with("nginx -t"))
    time.sleep(1)
    assert "octavo-demo" in walk.run(block_with("curl"))


def scraped() -> set[str]:
    """Targets that Prometheus has been to."""
    try:
        found = httpx.get("http://127.0.0.1:9090/api/v1/targets").json()["data"]["activeTargets"]
    except (httpx.HTTPError, ValueError):  # it is still starting
        return set()
    return {one["labels"]["instance"] for one in found if one["lastScrape"][:4] != "0001"}


def test_all_commands_are_known() -> None:
    """Those that are not walked belong to Docker, Kubernetes or a package manager."""
    left = "\n".join(line for block in BLOCKS for line in runnable(block).splitlines())
    programs = {re.split(r"[ =]", line.strip())[0] for line in left.splitlines()}
    assert programs <= {
        *("install", "(umask", "systemctl", "systemd-analyze", "for", "sed", "echo", "done"),
        *("printf", "haproxy", "nginx", "curl", "cp", "promtool", "/opt/octavo/bin/octavo"),
    }
