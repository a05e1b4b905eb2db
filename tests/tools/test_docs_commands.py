"""docs/reliability.md: what is said to show a promise runs as it is written, and is not nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "reliability.md"
SCRIPT = ROOT / "tests" / "support" / "selected_tests.py"


def rows() -> list[str]:
    """Of the table of promises: the cells that name what shows them."""
    table = PAGE.read_text().split("| shown by |\n")[1].split("\n\n")[0]
    return [line.rstrip(" |").rpartition(" | ")[2] for line in table.splitlines()[1:]]


def test_each_promise_is_shown_by_commands_that_are_written_out() -> None:
    for shown in rows():
        assert re.fullmatch(r"`(pytest|python) [^`…]+`(, `(pytest|python) [^`…]+`)*", shown), shown


def test_every_command_runs_some_test() -> None:
    commands = sorted(set(re.findall(r"`(pytest [^`]+)`", PAGE.read_text())))
    assert len(commands) > 40
    asked = [sys.executable, "-P", str(SCRIPT), *commands]
    ended = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    counts = json.loads(ended.stdout.splitlines()[-1])
    assert counts.keys() == set(commands)
    assert [command for command, count in counts.items() if not count] == []
