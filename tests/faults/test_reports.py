"""The figures of these tests: which of them a busy machine is excused from."""

from __future__ import annotations

import fault_checks
import pytest
from fault_checks import report


@pytest.fixture(params=[True, False], ids=["quiet", "busy"])
def quiet(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(fault_checks, "is_quiet", lambda: request.param)
    monkeypatch.setattr(fault_checks, "waived", [])
    monkeypatch.setattr(fault_checks, "slowness", lambda: 1.0)
    return bool(request.param)


def is_waived(value: float, limit: float, *, at_least: bool = False) -> bool:
    """Whether a figure of time is; AssertionError where it fails."""
    report("a-figure-s", value, limit, at_least=at_least, timed=True)
    return fault_checks.waived != []


@pytest.mark.parametrize(("value", "at_least"), [(2.1, False), (8.0, False), (0.5, True)])
def test_company_excuses_a_figure_of_time(quiet: bool, value: float, at_least: bool) -> None:
    if quiet:
        with pytest.raises(AssertionError):
            is_waived(value, 2.0, at_least=at_least)
    else:
        assert is_waived(value, 2.0, at_least=at_least)


@pytest.mark.parametrize(("value", "at_least"), [(8.1, False), (0.49, True)])
def test_nothing_excuses_four_times_the_limit(quiet: bool, value: float, at_least: bool) -> None:
    with pytest.raises(AssertionError):
        is_waived(value, 2.0, at_least=at_least)


def test_a_slow_machine_has_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_checks, "is_quiet", lambda: False)
    monkeypatch.setattr(fault_checks, "waived", [])
    monkeypatch.setattr(fault_checks, "slowness", lambda: 3.0)
    assert is_waived(23.0, 2.0)
    with pytest.raises(AssertionError):
        is_waived(25.0, 2.0)


def test_nothing_excuses_another_figure(quiet: bool) -> None:
    with pytest.raises(AssertionError):
        report("wrong", 1, 0)


def test_what_is_within_its_limit_is_not_waived(quiet: bool) -> None:
    assert not is_waived(2.0, 2.0)
    assert not is_waived(2.0, 2.0, at_least=True)
