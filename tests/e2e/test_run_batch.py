"""`octavo run-batch` with real processes: a run that is killed, and one over a server that runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from octavo_server import Server, alive, all_children, parent_of, wait_for

SERVER = ("--device", "cpu", "--served-model-name", "demo", "--max-num-seqs", "4")
BODIES: dict[str, Any] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Tell me a story."}]},
    "/v1/completions": {"prompt": "Once upon a time"},
    "/v1/messages": {
        "model": "demo",
        "max_tokens": 30,
        "messages": [{"role": "user", "content": "Tell me a story."}],
    },
    "/v1/responses": {"input": "Tell me a story."},
}


def write_jobs(path: Path, count: int, **extra: Any) -> set[str]:
    """`count` requests of every kind in turn; returns their names."""
    lines = []
    for i in range(count):
        url = list(BODIES)[i % len(BODIES)]
        job = {"custom_id": f"r{i}", "method": "POST", "url": url, "body": BODIES[url] | extra}
        lines.append(json.dumps(job))
    path.write_text("\n".join(lines))
    return {f"r{i}" for i in range(count)}


def start(folder: Path, *flags: str) -> subprocess.Popen[str]:
    files = ["-i", str(folder / "in.jsonl"), "-o", str(folder / "out.jsonl")]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "octavo.services.launch", "run-batch", *files, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
def test_a_killed_run_is_continued_without_repeating(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    names = write_jobs(tmp_path / "in.jsonl", 48, max_tokens=60)
    first = start(tmp_path, *SERVER, "--concurrency", "4")
    wait_for(lambda: num_lines(out) >= 6 or first.poll() is not None, 120)
    children = [pid for _, pid in all_children() if parent_of(pid) == first.pid]
    first.send_signal(signal.SIGKILL)
    finish(first)
    kept = out.read_bytes()
    num_kept = kept.count(b"\n")
    assert children and 6 <= num_kept < 48
    wait_for(lambda: not any(alive(pid) for pid in children), 10)
    out.write_bytes(kept + b'{"id":"batch_req_torn","custom_')
    code, output = finish(start(tmp_path, *SERVER, "--concurrency", "4"))
    assert code == 0, output
    assert f"48 of 48 requests answered ({48 - num_kept} now" in output
    assert out.read_bytes().startswith(kept)
    answers = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert sorted(answer["custom_id"] for answer in answers) == sorted(names)
    assert all(answer["response"]["status_code"] == 200 for answer in answers)


@pytest.mark.slow
def test_a_server_that_runs_already_is_used(tmp_path: Path, server: Server) -> None:
    write_jobs(tmp_path / "in.jsonl", 4)
    code, output = finish(start(tmp_path, "--url", server.url))
    assert code == 0, output
    assert num_lines(tmp_path / "out.jsonl") == 4


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker-0", "frontend-0", None])
def test_a_run_that_is_ended_says_how_to_go_on(tmp_path: Path, victim: str | None) -> None:
    """By the death of one of its processes, or by Ctrl-C."""
    write_jobs(tmp_path / "in.jsonl", 48, max_tokens=60)
    run = start(tmp_path, *SERVER, "--concurrency", "2")
    wait_for(lambda: num_lines(tmp_path / "out.jsonl") >= 1 or run.poll() is not None, 120)
    children = {name: pid for name, pid in all_children() if parent_of(pid) == run.pid}
    if victim is None:
        run.send_signal(signal.SIGINT)
    else:
        os.kill(children[victim], signal.SIGKILL)
    code, output = finish(run)
    assert code == 1 and "the same command goes on" in output
    assert (victim or "stopped") in output
    assert "Traceback" not in output
    assert not any(alive(pid) for pid in children.values())
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert all(answer["error"] is None for answer in answers)
