"""`octavo status` against a real server, printed once and live in a terminal."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from octavo_server import Server, free_port
from terminal import terminal

from octavo.services.client.samples import quantile, rate, read_page
from octavo.services.launch import run
from octavo.services.supervisor.admin import AdminSocket


def ask(server: Server) -> None:
    messages = [{"role": "user", "content": "hi"}]
    server.post("/v1/chat/completions", {"model": "demo", "messages": messages, "max_tokens": 8})


def test_once(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    ask(server)
    assert run(["status", "--once", "--port", str(server.port)], {}) == 0
    shown = capsys.readouterr().out
    first, *rest = shown.splitlines()
    assert first.split() == ["octavo", "ready", server.url, "demo"]
    found = {line.split()[0]: line for line in rest if line}
    assert "0 running" in found["requests"] and "of 21,840 tokens" in found["KV"]
    assert found["TTFT"].count(" ms") + found["TTFT"].count(" s") == 2
    assert all(f"{name}-0" in found for name in ("frontend", "scheduler", "worker"))
    assert found["restarts"] == "restarts 0" and "\x1b" not in shown


def test_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    for command in (["status"], ["chat", "-q", "x"], ["complete", "-q", "x"]):
        assert run([*command, "--port", str(port)], {}) == 2
        said = capsys.readouterr().err
        assert said == f"octavo: error: no server answers at http://127.0.0.1:{port}\n"


def test_live_until_q(server: Server) -> None:
    with terminal("status", "--port", str(server.port), "--interval", "0.3") as screen:
        screen.wait_for("last 10 s")
        before = len(screen.text)
        ask(server)
        ended = screen.wait_for("done/s", before)
        screen.wait_for("worker-0", ended)
        screen.type("q")
        assert screen.end() == 0
        assert "\x1b[32mready\x1b[0m" in screen.raw
        assert screen.raw.rstrip().endswith("\x1b[?1049l")


def test_live_until_interrupted_without_color(server: Server) -> None:
    with terminal("status", "--url", server.url, NO_COLOR="1") as screen:
        screen.wait_for("worker-0")
        screen.interrupt()
        assert screen.end() == 0
        assert "\x1b[32m" not in screen.raw


def test_a_server_that_is_still_loading(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = {"state": "loading", "progress": "loading weights 34 %", "restarts": 0, "processes": []}
    path, over = tmp_path / "admin", threading.Event()
    admin = AdminSocket(path, {"status": lambda: told})

    def serve() -> None:
        while not over.wait(0.02):
            admin.serve()

    serving = threading.Thread(target=serve)
    serving.start()
    asked = ["status", "--once", "--port", str(free_port()), "--socket", str(path)]
    try:
        assert run(asked, {}) == 0
    finally:
        over.set()
        serving.join()
        admin.close()
    assert "loading weights 34 %" in capsys.readouterr().out


PAGE = """\
# TYPE t histogram
t_bucket{engine="0",model_name="m",le="1.0"} %s
t_bucket{engine="0",model_name="m",le="2.0"} %s
t_bucket{engine="0",model_name="m",le="+Inf"} %s
t_count{engine="0",model_name="m"} %s
# TYPE n_total counter
n_total{engine="0",model_name="m"} %s
"""


def test_latencies_are_of_what_came_between() -> None:
    before, now = read_page(PAGE % (4, 4, 4, 4, 10), 1.0), read_page(PAGE % (4, 6, 8, 8, 30), 3.0)
    assert rate("n_total", before, now) == 10.0
    assert quantile("t", 0.25, before, now) == 1.5
    assert quantile("t", 0.99, before, now) == 2.0
    assert quantile("t", 0.5, now, now) is None and quantile("x", 0.5, before, now) is None
    assert now.model == "m"
