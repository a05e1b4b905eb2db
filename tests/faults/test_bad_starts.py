"""F26, F27: what cannot be served ends the start in one line, with the exit code of its kind."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_checks import report

from octavo.services import demo

Change = Callable[[Path], str]
"""Spoils a folder; returns what the error must name."""
SHARD = "model.safetensors"


def rewrite(folder: Path, edit: Callable[[dict[str, dict[str, object]]], str]) -> str:
    """Change the header, leave the data."""
    data = (folder / SHARD).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    culprit = edit(header)
    head = json.dumps(header).encode()
    (folder / SHARD).write_bytes(struct.pack("<Q", len(head)) + head + data[8 + size :])
    return culprit


def first_two(header: dict[str, dict[str, object]]) -> list[str]:
    return [name for name in sorted(header) if name != "__metadata__"][:2]


def truncated(folder: Path) -> str:
    path = folder / SHARD
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return SHARD


def header_of_2_63(folder: Path) -> str:
    path = folder / SHARD
    path.write_bytes(struct.pack("<Q", 2**63) + path.read_bytes()[8:])
    return SHARD


def overlapping(folder: Path) -> str:
    def edit(header: dict[str, dict[str, object]]) -> str:
        one, other = first_two(header)
        header[other] = {**header[one]}
        return SHARD

    return rewrite(folder, edit)


def missing(folder: Path) -> str:
    def edit(header: dict[str, dict[str, object]]) -> str:
        header["somebody.elses.weight"] = header.pop(name := first_two(header)[0])
        return name

    return rewrite(folder, edit)


def of_text(folder: Path) -> str:
    def edit(header: dict[str, dict[str, object]]) -> str:
        header[name := first_two(header)[0]]["dtype"] = "STRING"
        return name

    return rewrite(folder, edit)


def misshapen(folder: Path) -> str:
    def edit(header: dict[str, dict[str, object]]) -> str:
        entry = header[name := first_two(header)[0]]
        rows, columns = entry["shape"]  # type: ignore[misc]
        entry["shape"] = [rows * 2, columns // 2]  # type: ignore[has-type]
        return name

    return rewrite(folder, edit)


def a_link_out(folder: Path) -> str:
    (folder / SHARD).unlink()
    (folder / SHARD).symlink_to("/proc/self/mem")
    return SHARD


def without_tokenizer(folder: Path) -> str:
    (folder / "tokenizer.json").unlink()
    return "tokenizer.json"


CHANGES = (
    *(truncated, header_of_2_63, overlapping, missing),
    *(of_text, misshapen, a_link_out, without_tokenizer),
)


def serve(*flags: str) -> tuple[int, list[str], float]:
    """Exit code, what was printed, seconds."""
    command = [sys.executable, "-P", "-m", "octavo.services.launch", "serve", *flags]
    began = time.monotonic()
    ended = subprocess.run(
        [*command, "--device", "cpu"], capture_output=True, text=True, timeout=60
    )
    return ended.returncode, (ended.stdout + ended.stderr).splitlines(), time.monotonic() - began


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_f26_a_corrupted_model(tmp_path: Path, change: Change) -> None:
    folder = tmp_path / "model"
    shutil.copytree(Path(str(demo.__file__)).parent / "model", folder)
    culprit = change(folder)
    code, lines, seconds = serve(str(folder), "--port", "0")
    errors = [line for line in lines if "error" in line.lower()]
    assert code == 2 and len(errors) == 1 and culprit in errors[0]
    assert not any("Traceback" in line for line in lines)
    report(f"F26-{change.__name__}-s", round(seconds, 1), 3, streams=0, timed=True)


@pytest.mark.parametrize(
    ("flags", "suggestion"),
    [
        (("--max-num-seq", "4"), "--max-num-seqs"),
        (("--no-such-flag",), "unknown argument --no-such-flag"),
        (("--max-num-seqs", "many"), "many"),
        (("--dtype", "float33"), "float32"),
        (("--config", "{config}"), "max_model_len"),
    ],
)
def test_f27_bad_settings(tmp_path: Path, flags: tuple[str, ...], suggestion: str) -> None:
    config = tmp_path / "octavo.toml"
    config.write_text('max-modle-len = "4k"\n')
    code, lines, seconds = serve(*(flag.format(config=config) for flag in flags))
    assert code == 2 and suggestion in lines[-1] and len(lines) == 1, lines
    report(f"F27-{flags[0]}-s", round(seconds, 1), 2, streams=0, timed=True)


def test_f27_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, lines, seconds = serve("--port", str(port))
    assert code == 75 and len(lines) == 1 and str(port) in lines[0] and "--port" in lines[0]
    report("F27-port-s", round(seconds, 1), 2, streams=0, timed=True)
