"""Records: written, read, refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import results


@pytest.fixture(autouse=True)
def somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "machine", lambda: "a machine")
    monkeypatch.setattr(results, "commit", lambda: "abc1234")


def test_a_record_is_the_median_of_its_runs() -> None:
    record = results.record("ttft_2048", 4, "ms", [3.0, 1.0, 2.0])
    assert (record.value, record.runs) == (2.0, [3.0, 1.0, 2.0])
    assert (record.engine, record.machine, record.commit) == ("octavo", "a machine", "abc1234")


def test_the_command_names_a_script_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    script = results.ROOT / "bench" / "offline.py"
    monkeypatch.setattr("sys.argv", [str(script), "--engine", "a=b c"])
    assert results.command() == "python bench/offline.py --engine 'a=b c'"


def test_save_and_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [results.record("a", 1, "ms", [1.5]), results.record("b", None, "tok/s", [2, 4])]
    results.save(tmp_path / "new" / "x.json", records, {"more": 1})
    (tmp_path / "new" / "report.json").write_text('{"completed": 512}')
    (tmp_path / "new" / "list.json").write_text("[1]")
    assert results.load(tmp_path / "new") == records
    printed = capsys.readouterr().out.splitlines()
    assert [line.split() for line in printed] == [
        ["a", "1.50", "ms", "1.50", "to", "1.50", "in", "1"],
        ["b", "3.00", "tok/s", "2.00", "to", "4.00", "in", "2"],
    ]


def test_a_wrong_record_is_named(tmp_path: Path) -> None:
    entry = {"name": "a", "speed": 3}
    (tmp_path / "bad.json").write_text(json.dumps({"records": [entry]}))
    with pytest.raises(ValueError, match=r"bad\.json.*speed"):
        results.load(tmp_path)
