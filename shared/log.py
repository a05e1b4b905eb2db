"""Log lines: time, process, level, text. Prompts, outputs and keys are never logged.

Where nothing can be written (a full disk behind the log file), work goes on without the lines; how
many were lost is told with the first that can be written again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

import msgspec

STANDARD_ERROR = 2
FIELDS = "fields"
"""Key of `extra` under which a record carries values that JSON lines have one by one."""


def setup_logging(
    process: str, level: str = "INFO", form: str = "text", private: bool = False
) -> None:
    """Send this process's log to standard error, one line a record: text, or JSON. `private`: it
    has texts of clients in hand."""
    handler = LogHandler(STANDARD_ERROR)
    handler.setFormatter(formatter(process, form, private))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def formatter(process: str, form: str, private: bool = False) -> logging.Formatter:
    return (JsonFormatter if form == "json" else TextFormatter)(process, private)


class TextFormatter(logging.Formatter):
    def __init__(self, process: str, private: bool = False) -> None:
        super().__init__(f"%(asctime)s {process} %(levelname)s %(message)s", "%H:%M:%S")
        self._process = process
        self._private = private

    def formatException(self, ei: Any) -> str:
        return frames(ei[1]) if self._private else super().formatException(ei)


class JsonFormatter(TextFormatter):
    """One object a line; a traceback stands in `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": self._process,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def frames(error: BaseException | None) -> str:
    """Kinds and places of an exception and of those that led to it. What they say is left out:
    it may be a client's text (`could not convert '…'`)."""
    parts: list[str] = []
    while error is not None:
        places = "".join(traceback.format_tb(error.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{places}{type(error).__qualname__}")
        error = error.__cause__ or error.__context__
    return "\n".join(reversed(parts))


class LogHandler(logging.Handler):
    """Writes to a file descriptor, without a buffer that could not be emptied at the end."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        if self._lost:
            text = f"{self._told_lost()}\n{text}"
        try:
            os.write(self._descriptor, f"{text}\n".encode(errors="replace"))
            self._lost = 0
        except OSError:
            self._lost += 1

    def _told_lost(self) -> str:
        said = f"({self._lost} log lines could not be written)"
        told = {"msg": said, "levelname": "WARNING", "levelno": logging.WARNING}
        return self.format(logging.makeLogRecord(told))


def say(line: str) -> None:
    """Print for whoever started the command; a standard output that takes nothing is no error."""
    try:
        print(line, flush=True)
    except OSError:
        with contextlib.suppress(OSError):  # what is buffered would fail again at the exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
