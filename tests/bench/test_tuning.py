"""The sweep of settings: every value once, and the server with all defaults once."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench import tuning


def test_the_server_with_every_default_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    @contextmanager
    def serving(model: str, flags: list[str]) -> Iterator[tuple[str, str]]:
        started.append(flags)
        yield f"http://{len(started)}", "Ready"

    monkeypatch.setattr(tuning, "serving", serving)
    monkeypatch.setattr(tuning, "measured", lambda url, args: {"tokens/s": float(url[7:])})
    args = argparse.Namespace(
        model="m", flags="--seed 1", settings=list(tuning.SETTINGS), requests=4, rate=1.0, json=None
    )
    rows = tuning.run(args)["rows"]
    values = [(row["setting"], row["value"]) for row in rows]
    assert sorted(values) == sorted((n, v) for n, each in tuning.SETTINGS.items() for v in each)
    assert len(started) == len(rows) - len(tuning.SETTINGS) + 1
    assert all(flags[:2] == ["--seed", "1"] and len(flags) == 10 for flags in started)
    usual = [row for row in rows if row["value"] == tuning.DEFAULTS[row["setting"]]]
    assert {row["tokens/s"] for row in usual} == {1.0}
