"""Command lines whose mistakes are ours to explain: argparse, but for its way of ending."""

from __future__ import annotations

import argparse
from typing import NoReturn

from octavo.shared.errors import ConfigError

WIDTH = 100


class Parser(argparse.ArgumentParser):
    """Raises ConfigError for a bad line. Flags are never guessed from their beginnings."""

    def __init__(self, prog: str, **options: object) -> None:
        settings: dict[str, object] = {"allow_abbrev": False, "formatter_class": formatter}
        super().__init__(prog, **{**settings, **options})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=32, width=WIDTH)
