"""The environment of children, and how their end is told."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from house_supervisor import MODEL, fake_child

from octavo.services.supervisor.children import (
    Spawner,
    child_environment,
    how_it_ended,
    with_headers,
)
from octavo.services.supervisor.folder import private_directory
from octavo.services.supervisor.group import Group, Plan
from octavo.shared.config import EngineConfig, ProcessConfig, ServerConfig
from octavo.shared.environment import bare

SERVER = ServerConfig(engine=EngineConfig())
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}


def worker(device: Literal["cpu", "cuda"], ranks: int) -> ProcessConfig:
    server = ServerConfig(engine=EngineConfig(device=device, tensor_parallel_size=ranks))
    return Plan(Path("/x"), server, MODEL, "INFO").process("worker", 0)


PASSED = {"PATH": "/bin", "HF_HOME": "/h", "OCTAVO_TEST_X": "1", "LC_ALL": "C", "PYTHONPATH": "/p"}
OF_WORKERS = {"CUDA_VISIBLE_DEVICES": "1", "NCCL_DEBUG": "INFO", "TORCH_LOGS": "x"}
OF_FRONTENDS = {"OTEL_SERVICE_NAME": "x"}
KEPT_BACK = (
    *("HF_TOKEN", "HF_TOKEN_PATH", "OCTAVO_API_KEY", "AWS_KEY", "NVIDIA_API_KEY", "PYTHON_TOKEN"),
    *("OTEL_EXPORTER_OTLP_HEADERS", "CUDA_API_KEY", "TORCH_SECRET", "NCCL_PASSWORD", "XPATH"),
)


def test_only_what_is_listed_reaches_a_child() -> None:
    given = PASSED | OF_WORKERS | OF_FRONTENDS | dict.fromkeys(KEPT_BACK, "secret")
    assert child_environment(given, worker("cuda", 1)) == PASSED | OF_WORKERS
    plan = Plan(Path("/x"), ServerConfig(engine=EngineConfig()), MODEL, "INFO")
    assert child_environment(given, plan.process("frontend", 0)) == PASSED | OF_FRONTENDS
    assert child_environment(given, plan.process("scheduler", 0)) == PASSED
    assert bare(given) == {name: PASSED[name] for name in PASSED if name != "HF_HOME"}


def test_the_collectors_key_goes_to_frontends_on_their_pipe() -> None:
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": "x-key=secret"}
    server = ServerConfig(engine=EngineConfig(), otlp_traces_endpoint="http://collector")
    plan = Plan(Path("/x"), server, MODEL, "INFO")
    frontend, scheduler = plan.process("frontend", 0), plan.process("scheduler", 0)
    assert with_headers(frontend, environ).otlp_headers == "x-key=secret"
    assert with_headers(scheduler, environ) == scheduler
    for_traces = {"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-key=other"}
    assert with_headers(frontend, environ | for_traces).otlp_headers == "x-key=other"


def test_keys_are_told_to_frontends_alone() -> None:
    server = ServerConfig(engine=EngineConfig(), api_key=["s"], api_key_file="keys.toml")
    plan = Plan(Path("/x"), server, MODEL, "INFO")
    assert plan.process("frontend", 0).server == server
    for told in (plan.process("worker", 0).server, plan.process("scheduler", 0).server):
        assert (told.api_key, told.api_key_file) == ([], None)


def test_ranks_share_the_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    passive = {"OMP_WAIT_POLICY": "PASSIVE"}
    many = child_environment({}, worker("cpu", max(cores, 2)))
    assert many == {"OMP_NUM_THREADS": "1"} | passive | LOOPBACK
    alone = child_environment({}, worker("cpu", 1))
    assert alone == {"OMP_NUM_THREADS": str(max(cores - 1, 1))} | passive
    assert child_environment({"OMP_NUM_THREADS": "9"}, worker("cpu", 2))["OMP_NUM_THREADS"] == "9"


def test_ranks_meet_on_the_loopback_interface() -> None:
    """Else their libraries listen where other hosts reach them."""
    assert child_environment({}, worker("cuda", 1)) == {}
    assert child_environment({}, worker("cuda", 2)) == LOOPBACK
    chosen = {"NCCL_SOCKET_IFNAME": "eth0"}
    assert child_environment(chosen, worker("cuda", 2)) == LOOPBACK | chosen


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exited with code 0"), (-9, "was killed by SIGKILL"), (-40, "was killed by signal 40")],
)
def test_ends(code: int, words: str) -> None:
    assert how_it_ended(code) == words


def test_a_large_configuration_and_no_secret_in_the_command_line(tmp_path: Path) -> None:
    server = ServerConfig(
        engine=EngineConfig(), api_key=["the-secret"], chat_template="x" * 300_000
    )
    group = Group(Spawner(os.environ, fake_child))
    try:
        child = group.start(Plan(tmp_path, server, MODEL, "INFO").process("scheduler", 0))
        facts = group.wait_ready(lambda child, status: None)
        command = Path(f"/proc/{child.process.pid}/cmdline").read_bytes()
    finally:
        group.close()
    assert facts["num_blocks"] == 100
    assert b"scheduler-0" in command and b"the-secret" not in command
    assert not Path(f"/proc/{child.process.pid}").exists()


def test_the_directory_is_ours_alone_and_goes() -> None:
    with private_directory() as path:
        assert path.stat().st_mode & 0o777 == 0o700
    assert not path.exists()


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


def test_what_a_killed_server_left_goes_with_the_next(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short_path))
    left = short_path / "octavo-left"
    left.mkdir()
    (left / "lock").touch()
    others = short_path / "octavo-others"
    others.mkdir()
    with private_directory() as one, private_directory() as two:
        assert {path.name for path in short_path.iterdir()} == {one.name, two.name, others.name}
    assert list(short_path.iterdir()) == [others]


def test_the_directory_is_short_where_tmpdir_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("d" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with private_directory() as path:
        assert len(str(path)) < 80
    assert list(long.iterdir()) == []


def test_who_reads_nothing_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("OCTAVO_TEST_LOG", str(log))
    group = Group(Spawner(os.environ, fake_child))
    try:
        child = group.start(Plan(tmp_path, SERVER, MODEL, "INFO").process("scheduler", 0))
        group.wait_ready(lambda child, status: None)
        child.signal(signal.SIGSTOP)
        group.tell("scheduler", b"x" * 200_000)
        group.tell("scheduler", b"last")
        child.signal(signal.SIGCONT)
        while "scheduler-0 last " not in log.read_text():
            group.wait()
    finally:
        group.close()
