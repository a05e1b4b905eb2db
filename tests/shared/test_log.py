"""Log lines as text and as JSON; lost ones are counted."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import pytest

from octavo.shared.log import FIELDS, LogHandler, formatter


def record(text: str, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": text, "levelname": "INFO", "levelno": 20, **extra})
    return made


def test_json_lines() -> None:
    form = formatter("frontend-0", "json")
    line = json.loads(form.format(record('a "b"\n', **{FIELDS: {"status": 200}})))
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO", "process": "frontend-0", "message": 'a "b"\n', "status": 200,
    }  # fmt: skip
    try:
        raise ValueError("told")
    except ValueError:
        made = record("x", exc_info=sys.exc_info())
    assert "ValueError: told" in json.loads(form.format(made))["exception"]
    assert "\n" not in form.format(made)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_private_log_leaves_out_what_exceptions_say(form: str) -> None:
    """int() says what it was given, and so do most."""
    first, second = "a secret", "another secret"
    try:
        try:
            int(first)
        except ValueError as error:
            raise KeyError(second) from error
    except KeyError:
        made = record("failed", exc_info=sys.exc_info())
    line = formatter("frontend-0", form, private=True).format(made)
    assert "secret" not in line
    assert "ValueError" in line and "KeyError" in line and "test_log.py" in line


def test_text_lines() -> None:
    line = formatter("worker-1", "text").format(record("hello"))
    assert line.split(" ", 1)[1] == "worker-1 INFO hello"


def test_lost_lines_are_json_too(tmp_path: Path) -> None:
    read_only = os.open(os.devnull, os.O_RDONLY)
    handler = LogHandler(read_only)
    handler.setFormatter(formatter("w", "json"))
    handler.emit(record("lost"))
    handler._descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    handler.emit(record("found"))
    os.close(read_only)
    os.close(handler._descriptor)
    told = [json.loads(line)["message"] for line in (tmp_path / "log").read_text().splitlines()]
    assert told == ["(1 log lines could not be written)", "found"]
