"""Progress: bars on a terminal, a line per 5 s elsewhere."""

from __future__ import annotations

import io
import logging
import os

import pytest
from house_supervisor import MODEL, fake_child

from octavo.services.supervisor.children import ChildProcess, Spawner
from octavo.services.supervisor.group import Group, Plan
from octavo.services.supervisor.progress import Progress, describe
from octavo.shared.config import EngineConfig, ServerConfig
from octavo.shared.process import Status


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def loading(done: int, phase: str = "weights") -> Status:
    return Status(state="loading", phase=phase, done=done, total=4_000_000_000, unit="B")


class Rank:
    role = "worker"

    def __init__(self, index: int) -> None:
        self.index = index


def test_words() -> None:
    status = loading(1_000_000_000)
    assert describe(status, 2.0) == "loading weights 25 % (1.0 of 4.0 GB, 0.5 GB/s, 6 s left)"
    status = Status(state="loading", phase="graphs", done=3, total=12)
    assert describe(status, 2.0, "warming") == "warming graphs 25 % (3 of 12, 6 s left)"


def test_the_first_line_tells_no_speed_and_small_files_have_their_unit() -> None:
    assert describe(loading(760_000_000), 0.001) == "loading weights 19 % (0.8 of 4.0 GB)"
    small = Status(state="loading", phase="weights", done=2_200_000, total=11_000_000, unit="B")
    assert describe(small, 0.6) == "loading weights 20 % (2.2 of 11.0 MB, 3.7 MB/s, 2 s left)"
    unknown = Status(state="", phase="org/m", done=2_200_000, unit="B")
    assert describe(unknown, 2.0, "fetching") == "fetching org/m (2.2 MB, 1.1 MB/s)"


def test_lines_are_rare_and_tell_of_rank_0_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    show = Progress(io.StringIO())
    caplog.set_level(logging.INFO)
    ranks = [Rank(0), Rank(1)]
    for rank, seconds in ((0, 100.0), (1, 106.0), (0, 104.9), (0, 105.0), (0, 106.0)):
        clock[0] = seconds
        show(ranks[rank], loading(1))  # type: ignore[arg-type]
    assert len(caplog.messages) == 1
    assert show.line_of(ranks[:1]) == show.line != ""  # type: ignore[arg-type]
    assert show.line_of(ranks[1:]) == ""  # type: ignore[arg-type]


def test_a_bar_for_each_phase_on_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    terminal = Terminal()
    show = Progress(stream=terminal)
    for phase in ("weights", "graphs"):
        show(Rank(0), loading(2_000_000_000, phase))  # type: ignore[arg-type]
    show.close()
    shown = terminal.getvalue()
    assert "Loading weights:  50%" in shown and "Loading graphs:  50%" in shown
    assert caplog.messages == []


def test_it_hears_what_children_report(tmp_path_factory: pytest.TempPathFactory) -> None:
    heard: list[tuple[str, int]] = []

    def hear(child: ChildProcess, status: Status) -> None:
        heard.append((child.name, status.done))

    plan = Plan(tmp_path_factory.mktemp("x"), ServerConfig(engine=EngineConfig()), MODEL, "INFO")
    group = Group(Spawner(os.environ, fake_child))
    try:
        group.start(plan.process("scheduler", 0))
        group.start(plan.process("worker", 3))
        group.wait_ready(hear)
    finally:
        group.close()
    assert sorted(heard) == [("scheduler-0", 1), ("worker-3", 1)]
