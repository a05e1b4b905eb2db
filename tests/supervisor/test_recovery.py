"""What the supervisor does about children that die or hang, over fake ones."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pytest
from house_supervisor import Served, alive, connects, wait_until

from octavo.shared.process import ProcessState

ALL = {"scheduler-0", "worker-0", "worker-1", "frontend-0", "frontend-1"}


@pytest.fixture
def served(tmp_path: Path, serving: list[Served]) -> Served:
    """Two ranks, two frontends, ready."""
    made = Served(tmp_path, ranks=2, frontends=2)
    serving.append(made)
    made.ready()
    return made


def wait_for_new(served: Served, old: dict[str, int], names: set[str]) -> None:
    """Wait until these children, and no others, have other pids than before."""

    def changed() -> set[str]:
        return {name for name, pid in served.events("started").items() if pid != old[name]}

    wait_until(lambda: changed() == names)


@pytest.mark.parametrize(
    ("victim", "replaced", "told"),
    [
        ("frontend-1", {"frontend-1"}, "scheduler-0 lost-frontend-1."),
        ("scheduler-0", {"scheduler-0"}, None),
        ("worker-1", {"worker-0", "worker-1"}, "scheduler-0 lost-workers"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_who_is_started_again(
    served: Served, victim: str, replaced: set[str], told: str | None, number: signal.Signals
) -> None:
    """SIGSTOP: a child that hangs is noticed by its silence, and killed."""
    old = served.events("started")
    os.kill(old[victim], number)
    wait_for_new(served, old, replaced)
    assert not any(alive(old[name]) for name in replaced)
    if told is not None:
        wait_until(lambda: any(told in line for line in served.log.read_text().splitlines()))
    wait_until(lambda: connects(served.port) in ("frontend-0", "frontend-1"))
    served.process.send_signal(signal.SIGTERM)
    code, errors = served.finish()
    assert code == 0 and f"{victim} was killed by SIGKILL; starting it again" in errors
    assert ("no progress" in errors) == (number == signal.SIGSTOP)
    assert set(served.events("ended")) == ALL


def test_a_new_scheduler_knows_how_often_others_were_started_again(served: Served) -> None:
    """From its start, not from a message that comes after the first question."""
    old = served.events("started")
    os.kill(old["worker-0"], signal.SIGKILL)
    wait_for_new(served, old, {"worker-0", "worker-1"})
    os.kill(old["scheduler-0"], signal.SIGKILL)
    wait_until(lambda: bool(served.events("knows-scheduler-1")))
    (pid,) = served.events("knows-worker-1").values()
    assert served.events("started")["scheduler-0"] == pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("victim", ["worker-0", "scheduler-0"])
def test_while_frontends_drain_the_engine_is_looked_after(
    tmp_path: Path, serving: list[Served], victim: str, number: signal.Signals
) -> None:
    """And no frontend is started again, whatever it ended of."""
    served = Served(tmp_path, {"frontend-0": "stubborn"}, frontends=2, shutdown_timeout=60, ranks=1)
    serving.append(served)
    served.ready()
    old = served.events("started")
    served.process.send_signal(signal.SIGTERM)
    served.wait_for("sigterm", 2)
    os.kill(old[victim], number)
    wait_for_new(served, old, {victim})
    served.process.send_signal(signal.SIGTERM)
    code, errors = served.finish()
    assert code == 0 and f"{victim} was killed by SIGKILL; starting it again" in errors
    assert served.events("started").keys() == old.keys()
    assert [name for name in old if served.events("started")[name] != old[name]] == [victim]


def test_a_crash_loop_while_draining_is_told(tmp_path: Path, serving: list[Served]) -> None:
    """By the exit code: what was in flight did not get to its end."""
    served = Served(tmp_path, {"frontend-0": "stubborn"}, shutdown_timeout=60)
    serving.append(served)
    served.ready()
    served.process.send_signal(signal.SIGTERM)
    served.wait_for("sigterm", 1)
    for death in range(6):
        pids = served.events("started")
        os.kill(pids["worker-0"], signal.SIGKILL)
        if death < 5:
            wait_for_new(served, pids, {"worker-0"})
    wait_until(lambda: not Path(f"/proc/{pids['worker-0']}").exists())
    served.process.send_signal(signal.SIGTERM)
    code, errors = served.finish()
    assert code == 70 and "5 restarts within 60 s did not help; stopping" in errors


def census(served: Served) -> dict[str, ProcessState]:
    """What the scheduler was told last."""
    lines = [line.split()[1] for line in served.log.read_text().splitlines()]
    told = [line.removeprefix("processes-") for line in lines if line.startswith("processes-")]
    states = msgspec.json.decode(told[-1], type=list[ProcessState]) if told else []
    return {one.name: one for one in states}


def test_the_scheduler_knows_who_is_there(served: Served) -> None:
    """Each process by its name, and how often it was started again, whichever dies."""
    wait_until(lambda: {one.state for one in census(served).values()} == {"ready"})
    first = census(served)
    assert first.keys() == ALL | {"supervisor"}
    assert first["supervisor"].pid == served.process.pid
    for number, victim in enumerate(("frontend-1", "scheduler-0"), 1):
        os.kill(census(served)[victim].pid, signal.SIGKILL)
        wait_until(lambda: sum(one.restarts for one in census(served).values()) == number)  # noqa: B023
        wait_until(lambda: census(served)["supervisor"].state == "ready")
    last = census(served)
    assert {name for name, one in last.items() if one.restarts} == {"frontend-1", "scheduler-0"}
    assert last["frontend-1"].pid == served.events("started")["frontend-1"]
    assert last["frontend-1"].started > first["frontend-1"].started
    assert last["worker-0"] == first["worker-0"]


def test_a_crash_loop_ends_the_server(tmp_path: Path, serving: list[Served]) -> None:
    served = Served(tmp_path, {"worker-0": "die-when-ready"})
    serving.append(served)
    code, errors = served.finish(30)
    assert code == 70
    assert errors.count("worker-0 was killed by SIGKILL; starting it again") == 6
    assert "5 restarts within 60 s did not help; stopping" in errors
    assert not any(alive(pid) for pid in served.events("started").values())
    assert connects(served.port) is None


@pytest.mark.parametrize("first", [True, False])
def test_a_hang_before_ready_is_noticed(tmp_path: Path, serving: list[Served], first: bool) -> None:
    """In the first start, by its pulse, which has four times as long; and in one of recovery, by
    its progress."""
    behaviour = {"worker-0": "hang" if first else "hang-later"}
    served = Served(tmp_path, behaviour, environ={} if first else {"OCTAVO_TEST_START": "3"})
    serving.append(served)
    old = served.wait_for("started", 3)
    if not first:
        served.ready()
        os.kill(old["worker-0"], signal.SIGKILL)
        wait_for_new(served, old, {"worker-0"})
    old = served.events("started")
    os.kill(old["worker-0"], signal.SIGSTOP)
    wait_until(lambda: served.events("started")["worker-0"] != old["worker-0"], seconds=30)
    served.process.send_signal(signal.SIGTERM)
    code, errors = served.finish()
    assert code == 0 and "worker-0 has made no progress" in errors


def test_one_death_of_eight_ranks(tmp_path: Path, serving: list[Served]) -> None:
    """All are read at once, as from a supervisor that was late; they are one restart."""
    served = Served(tmp_path, ranks=8)
    serving.append(served)
    served.ready()
    old = served.events("started")
    ranks = {name for name in old if name.startswith("worker")}
    os.kill(served.process.pid, signal.SIGSTOP)
    for name in ranks:
        os.kill(old[name], signal.SIGKILL)
    wait_until(lambda: not any(alive(old[name]) for name in ranks))
    os.kill(served.process.pid, signal.SIGCONT)
    wait_for_new(served, old, ranks)
    wait_until(lambda: served.num_starts("worker-0") == 2)
    served.process.send_signal(signal.SIGTERM)
    code, errors = served.finish()
    assert code == 0 and errors.count("starting it again") == 1
    assert {served.num_starts(name) for name in ranks} == {2}
