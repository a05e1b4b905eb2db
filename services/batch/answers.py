"""The output: a line an answer, appended as answers come.

What a killed run leaves is a file of whole lines, and perhaps a piece of one. The next run keeps
the answers that are good, so that only the others are asked for again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from octavo.shared.errors import ConfigError, ResourceBusy

OK = 200
START = b'{"id":"batch_req_'


class AnswerResponse(msgspec.Struct, kw_only=True):
    status_code: int
    request_id: str
    body: Any


class AnswerError(msgspec.Struct, kw_only=True):
    code: str
    message: str


class Answer(msgspec.Struct, kw_only=True):
    """One line. `error`: why there is no response; a server's refusal is a response."""

    id: str
    custom_id: str | None
    response: AnswerResponse | None = None
    error: AnswerError | None = None

    @property
    def good(self) -> bool:
        return self.response is not None and self.response.status_code == OK


class _Known(msgspec.Struct):
    """As much of a line as tells whether its request is done."""

    class Response(msgspec.Struct):
        status_code: int

    id: str
    custom_id: str | None
    response: Response | None = None


_known = msgspec.json.Decoder(_Known)


def new_id() -> str:
    return f"batch_req_{secrets.token_hex(16)}"


class AnswerFile:
    """Owns the output file. `done`: the custom_ids of its good answers."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError for a file that is no batch's output, ResourceBusy for one that
        another run writes."""
        self._path = path
        self.done: set[str] = set()
        with contextlib.ExitStack() as opened:
            try:
                self._file = opened.enter_context(path.open("ab", buffering=0))
                _lock(self._file.fileno(), path)
                self._tidy()
            except OSError as error:
                raise ConfigError(f"{path}: {error.strerror}") from error
            opened.pop_all()

    def add(self, answer: Answer) -> None:
        """One write, without a buffer: the next instruction may be the last."""
        self._file.write(msgspec.json.encode(answer) + b"\n")

    def close(self) -> None:
        self._file.close()

    def _tidy(self) -> None:
        """Leave the good answers, one for each request; another file takes the place of this one
        only when it is complete."""
        kept = list(self._good())
        if sum(map(len, kept)) == self._path.stat().st_size:
            return
        new = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        file = new.open("xb", buffering=0)
        _lock(file.fileno(), new)
        file.write(b"".join(kept))
        os.fsync(file.fileno())
        os.replace(new, self._path)
        self._file.close()
        self._file = file

    def _good(self) -> Iterator[bytes]:
        for number, line in enumerate(self._path.read_bytes().splitlines(keepends=True), start=1):
            if not line.endswith(b"\n") and _could_be_ours(line):
                return
            known = self._decode(line, number)
            good = known.response is not None and known.response.status_code == OK
            if good and known.custom_id is not None and known.custom_id not in self.done:
                self.done.add(known.custom_id)
                yield line

    def _decode(self, line: bytes, number: int) -> _Known:
        try:
            return _known.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ConfigError(
                f"{self._path}:{number} is not an answer of a batch; choose another output file"
            ) from None


def _could_be_ours(line: bytes) -> bool:
    """Whether a line without an end is the beginning of one that we wrote."""
    return line.startswith(START) or START.startswith(line)


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ResourceBusy(f"{path} is being written by another run") from None
