"""The records that every script here can write, and `compare.py` reads.

    python bench/results.py FILE NAME ROW UNIT VALUE [VALUE ...]     a record by hand

A results file is {"records": [...], "detail": whatever the script measured besides}. A record:

    name     what was measured; `compare.py` finds it by this
    row      the row of the goals that it belongs to, or null
    value    the median of `runs`, in `unit`
    runs     one value a repetition
    machine, command, date, commit
    engine   "octavo", "vllm" or "transformers"
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

Engine = Literal["octavo", "vllm", "transformers"]
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Record:
    name: str
    row: int | None
    value: float
    unit: str
    runs: list[float]
    machine: str
    command: str
    date: str
    commit: str
    engine: Engine = "octavo"


def record(
    name: str, row: int | None, unit: str, runs: Sequence[float], engine: Engine = "octavo"
) -> Record:
    """A record of this moment, machine and command."""
    return Record(
        name=name,
        row=row,
        value=round(statistics.median(runs), 4),
        unit=unit,
        runs=[round(run, 4) for run in runs],
        machine=machine(),
        command=command(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit(),
        engine=engine,
    )


def machine() -> str:
    """The GPUs' names, or the number of CPUs. Asks the driver's tool: torch takes seconds."""
    if tool := shutil.which("nvidia-smi"):
        names = _output(tool, "--query-gpu=name", "--format=csv,noheader").splitlines()
        if names:
            return f"{len(names)}x {names[0]}" if len(names) > 1 else names[0]
    return f"CPU, {len(os.sched_getaffinity(0))} cores, {platform.machine()}"


def commit() -> str:
    return _output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD") or "unknown"


def command() -> str:
    script = Path(sys.argv[0]).resolve()
    name = script.relative_to(ROOT) if script.is_relative_to(ROOT) else script.name
    return shlex.join(["python", str(name), *sys.argv[1:]])


def _output(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def save(path: Path | None, records: Sequence[Record], detail: Any = None) -> None:
    """Write the records, with `detail`, where a path is given; then print them."""
    if path is not None:
        content = {"records": [asdict(each) for each in records], "detail": detail}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")
    for line in lines(records):
        print(line)


def lines(records: Iterable[Record]) -> list[str]:
    return [
        f"{each.name:32}{each.value:12,.2f} {each.unit:10}"
        f"{min(each.runs):,.2f} to {max(each.runs):,.2f} in {len(each.runs)}"
        for each in records
    ]


def load(folder: Path) -> list[Record]:
    """The records of every results file in a folder; other JSON is passed by."""
    found: list[Record] = []
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        entries = content.get("records", []) if isinstance(content, dict) else []
        found += [read(entry, path) for entry in entries]
    return found


def read(entry: dict[str, Any], path: Path) -> Record:
    """Raises ValueError, naming the file, where fields are missing or unknown."""
    names = {field.name for field in fields(Record)}
    if wrong := names ^ entry.keys():
        raise ValueError(f"{path}: a record with wrong fields: {', '.join(sorted(wrong))}")
    return Record(**entry)


def add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a record by hand.")
    parser.add_argument("file", type=Path)
    parser.add_argument("name")
    parser.add_argument("row", type=int)
    parser.add_argument("unit")
    parser.add_argument("values", type=float, nargs="+")
    args = parser.parse_args()
    save(args.file, [record(args.name, args.row, args.unit, args.values)])


if __name__ == "__main__":
    main()
