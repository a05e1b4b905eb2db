"""What a slip or a script may type: a line that says what is wrong and code 2, no traceback."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from octavo_server import Server, free_port

from octavo.services.launch import run

BYTES = "\udcff"
"""How Python reads the byte 255 of a command line."""


@pytest.mark.parametrize("command", ["status", "chat -q x", "complete -q x", "bench"])
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--port", "99999"], "99999 is not between 1 and 65535"),
        (["--port", "-1"], "-1 is not between 1 and 65535"),
        (["--port", "0"], "0 is not between 1 and 65535"),
        (["--port", "x"], "--port: invalid"),
        (["--url", "http://[::bad"], "--url 'http://[::bad': it must begin with http"),
        (["--url", "http://"], "--url 'http://': it must begin with http"),
        (["--url", "http://h:99999"], "it must begin with http"),
        (["--url", "http://h\udcff"], "it must begin with http"),
        (["--url", "localhost"], "it must begin with http"),
        (["--api-key", "schlüssel"], "a key is printable ASCII"),
        (["--api-key", BYTES], "a key is printable ASCII"),
        (["--api-key", "a\nb"], "a key is printable ASCII"),
    ],
)
def test_addresses(
    command: str, flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command.split(), *flags], {}) == 2
    said = capsys.readouterr()
    assert says in said.err and said.err.count("\n") == 1 and not said.out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["chat", "-q", BYTES], "not UTF-8 text"),
        (["complete", "-q", BYTES], "not UTF-8 text"),
        (["chat", "--system-prompt", BYTES], "not UTF-8 text"),
        (["chat", "--model-name", BYTES, "-q", "x"], "not UTF-8 text"),
        (["verify", "--prompt", BYTES], "not UTF-8 text"),
        (["bench", "--model", BYTES], "not UTF-8 text"),
        (["chat", "-q", "x", "--temperature", "nan"], "nan is not a finite number"),
        (["bench", "--temperature", "inf"], "inf is not a finite number"),
        (["bench", "--burstiness", "inf"], "inf is not a finite number"),
        (["status", "--interval", "inf"], "--interval must be between 0.2 and 3600"),
        (["status", "--interval", "nan"], "--interval must be between"),
        (["doctor", "--port", "99999"], "port must be between"),
        (["admin", "status", "--port", "99999"], "no server answers at"),
    ],
)
def test_values(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argv, {}) == 2
    assert says in capsys.readouterr().err


def test_a_key_of_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status"], {"OCTAVO_API_KEY": "schlüssel"}) == 2
    assert "a key is printable ASCII" in capsys.readouterr().err


@pytest.fixture
def signals() -> Iterator[None]:
    """Left as they were: a command that runs in a process of its own need not."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--url", "http://127.0.0.1:{port}"], "no server answers at http://127.0.0.1:{port}\n"),
        (["--url", "http://[::bad"], "it must begin with http"),
        (["--url", "http://127.0.0.1:{port}", "--api-key", "ü"], "a key is printable ASCII"),
    ],
)
def test_a_batch_for_nobody_is_over_at_once(
    flags: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x"}}
    (tmp_path / "in").write_text(json.dumps(job))
    port = str(free_port())
    files = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    named = [flag.format(port=port) for flag in flags]
    assert run(["run-batch", *files, *named], {}) == 2
    assert says.format(port=port) in capsys.readouterr().err


def shell(line: str, server: Server, typed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = f'"$0" -P -m octavo.services.launch {line}'.replace("URL", server.url)
    return subprocess.run(
        ["bash", "-c", command, sys.executable], capture_output=True, timeout=120, input=typed
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("chat --url URL <&-", 0),
        ("chat -q hi --max-tokens 2 --url URL <&- >&-", 0),
        ("status --once --url URL <&- >&- 2>&-", 0),
    ],
)
def test_streams_that_are_closed(line: str, code: int, server: Server) -> None:
    ended = shell(line, server)
    assert (ended.returncode, ended.stderr) == (code, b"")


def test_lines_that_are_not_utf8(server: Server) -> None:
    ended = shell("complete --max-tokens 2 --url URL", server, typed=b"one \xff two\nthree\n")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.count(b"\n") >= 2
