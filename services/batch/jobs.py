"""The input: a line a request, in the form of OpenAI's batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from octavo.shared.errors import ConfigError

Url = Literal[
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/score",
    "/score",
    "/v1/rerank",
    "/rerank",
    "/v1/responses",
    "/v1/messages",
]
CustomId = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class Line(msgspec.Struct, kw_only=True):
    custom_id: CustomId
    method: Literal["POST"]
    url: Url
    body: dict[str, Any]


class _Named(msgspec.Struct):
    """What a line that is no request may still tell of itself."""

    custom_id: CustomId | None = None


@dataclass(frozen=True)
class Job:
    """One line. `problem`: why it cannot be sent."""

    custom_id: str | None
    url: str = ""
    body: bytes = b""
    problem: str | None = None


_line = msgspec.json.Decoder(Line)
_named = msgspec.json.Decoder(_Named)


def read_jobs(path: Path) -> Iterator[Job]:
    """Every line that is not empty, in order."""
    for _, text in _lines(path):
        yield parse_job(text)


def survey(path: Path) -> tuple[int, set[str]]:
    """How many jobs there are, and their custom_ids. Raises ConfigError for one that stands there
    twice."""
    seen: dict[str, int] = {}
    total = 0
    for number, text in _lines(path):
        total += 1
        name = _name(text)
        if name is not None and (before := seen.setdefault(name, number)) != number:
            raise ConfigError(
                f"{path}:{number}: custom_id {name[:100]!r} stands in line {before} too"
            )
    return total, set(seen)


def parse_job(text: bytes) -> Job:
    try:
        line = _line.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Job(_name(text), problem=_reason(error))
    if line.body.get("stream"):
        return Job(line.custom_id, problem="A request of a batch cannot be streamed.")
    return Job(line.custom_id, line.url, msgspec.json.encode(line.body))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, start=1):
                if text.strip():
                    yield number, text
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _name(text: bytes) -> str | None:
    try:
        return _named.decode(text).custom_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return str(error)[:300]
    return "The line is not JSON in UTF-8."
