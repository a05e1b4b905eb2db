"""F26, F27: what cannot be served ends the start in one line, with the exit code of its kind."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault_checks import hooked, report

from octavo.services import demo

Change = Callable[[Path], tuple[str, ...]]
"""Spoils a folder; returns what the error must name: the file, and the tensor if there is one."""
Header = dict[str, dict[str, Any]]
SHARD = "model.safetensors"


def parts(folder: Path) -> tuple[Header, bytes]:
    """Of the weights' file: its tensors, and what follows."""
    data = (folder / SHARD).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    return header, data[8 + size :]


def rewrite(folder: Path, edit: Callable[[Header], str]) -> tuple[str, ...]:
    """Change the header, leave the data. `edit` returns the tensor's name."""
    header, data = parts(folder)
    name = edit(header)
    head = json.dumps(header).encode()
    (folder / SHARD).write_bytes(struct.pack("<Q", len(head)) + head + data)
    return SHARD, f"tensor {name} "


def truncated(folder: Path) -> tuple[str, ...]:
    header, data = parts(folder)
    path, cut = folder / SHARD, len(data) // 2
    path.write_bytes(path.read_bytes()[:-cut])
    ends = {name: entry["data_offsets"][1] for name, entry in header.items()}
    lost = min((end, name) for name, end in ends.items() if end > len(data) - cut)[1]
    return SHARD, f"tensor {lost} "


def header_of_2_63(folder: Path) -> tuple[str, ...]:
    path = folder / SHARD
    path.write_bytes(struct.pack("<Q", 2**63) + path.read_bytes()[8:])
    return (SHARD,)


def overlapping(folder: Path) -> tuple[str, ...]:
    def edit(header: Header) -> str:
        one, other = sorted(header)[:2]
        header[other] = {**header[one]}
        return other

    return rewrite(folder, edit)


def missing(folder: Path) -> tuple[str, ...]:
    """It is in no file: the folder is named."""

    def edit(header: Header) -> str:
        header["somebody.elses.weight"] = header.pop(name := min(header))
        return name

    return folder.name, rewrite(folder, edit)[1]


def of_text(folder: Path) -> tuple[str, ...]:
    def edit(header: Header) -> str:
        header[name := min(header)]["dtype"] = "STRING"
        return name

    return rewrite(folder, edit)


def misshapen(folder: Path) -> tuple[str, ...]:
    def edit(header: Header) -> str:
        entry = header[name := min(header)]
        rows, columns = entry["shape"]
        entry["shape"] = [rows * 2, columns // 2]
        return name

    return rewrite(folder, edit)


def a_link_out(folder: Path) -> tuple[str, ...]:
    (folder / SHARD).unlink()
    (folder / SHARD).symlink_to("/proc/self/mem")
    return (SHARD,)


def without_tokenizer(folder: Path) -> tuple[str, ...]:
    (folder / "tokenizer.json").unlink()
    return folder.name, "tokenizer.json"


CHANGES = (
    *(truncated, header_of_2_63, overlapping, missing),
    *(of_text, misshapen, a_link_out, without_tokenizer),
)


def serve(*flags: str, device: str = "cpu", fault: str = "") -> tuple[int, list[str], float]:
    """Exit code, what was printed, seconds. `fault`: one of support/faults."""
    command = [sys.executable, "-P", "-m", "octavo.services.launch", "serve", "--device", device]
    variables = os.environ | (hooked(fault) if fault else {})
    began = time.monotonic()
    ended = subprocess.run(
        [*command, *flags], capture_output=True, text=True, timeout=60, env=variables
    )
    return ended.returncode, (ended.stdout + ended.stderr).splitlines(), time.monotonic() - began


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_f26_a_corrupted_model(tmp_path: Path, change: Change) -> None:
    folder = tmp_path / "model"
    shutil.copytree(Path(str(demo.__file__)).parent / "model", folder)
    culprits = change(folder)
    code, lines, seconds = serve(str(folder), "--port", "0")
    errors = [line for line in lines if "error" in line.lower()]
    assert code == 2 and len(errors) == 1
    assert all(culprit in errors[0] for culprit in culprits), errors
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


def test_f27_a_gpu_that_is_busy() -> None:
    """Torch finds one, and CUDA says that it is another's: there need be none for that."""
    code, lines, seconds = serve("--port", "0", device="cuda", fault="busy")
    errors = [line for line in lines if "error" in line.lower()]
    assert code == 75 and len(errors) == 1, lines
    assert "GPU 0 is in use" in errors[0] and "CUDA_VISIBLE_DEVICES" in errors[0]
    assert not any("Traceback" in line for line in lines)
    report("F27-gpu-busy-s", round(seconds, 1), 3, streams=0, timed=True)
