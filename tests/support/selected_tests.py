"""`python selected_tests.py COMMAND...`: how many tests each `pytest ...` would run, as JSON.

All is collected once, for as long as that takes; pytest's own functions then choose.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterable

import pytest
from _pytest.mark import deselect_by_keyword, deselect_by_mark


def read(command: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("places", nargs="+")
    parser.add_argument("-k", default="")
    parser.add_argument("-m", default=None)
    parser.add_argument("-s", action="store_true")
    return parser.parse_args(shlex.split(command)[1:])


def places(commands: Iterable[str]) -> list[str]:
    return sorted({place for command in commands for place in read(command).places})


class Selection:
    """A plugin. `counts`: tests by command."""

    def __init__(self, commands: Iterable[str]) -> None:
        self.counts = dict.fromkeys(commands, 0)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        usual = config.option.markexpr
        for command in self.counts:
            asked = read(command)
            paths = [config.rootpath / place for place in asked.places]
            left = [one for one in items if any(map(one.path.is_relative_to, paths))]
            config.option.keyword = asked.k
            config.option.markexpr = usual if asked.m is None else asked.m
            deselect_by_keyword(left, config)
            deselect_by_mark(left, config)
            self.counts[command] = len(left)


def main(commands: list[str]) -> int:
    selection = Selection(commands)
    code = pytest.main(["--collect-only", "-qq", *places(commands)], plugins=[selection])
    print(json.dumps(selection.counts))
    return 0 if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) else int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
