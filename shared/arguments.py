"""Command lines whose mistakes are ours to explain: argparse, but for its way of ending."""

from __future__ import annotations

import argparse
import math
from typing import NoReturn
from urllib.parse import urlsplit

from octavo.shared.errors import ConfigError

WIDTH = 100
KEY_FLAG = "--api-key"
OF_ONE_KEY = ("status", "chat", "complete", "bench")
"""Commands whose flag takes a single one, so that what follows is something else."""


class Parser(argparse.ArgumentParser):
    """Raises ConfigError for a bad line. Flags are never guessed from their beginnings."""

    def __init__(self, prog: str, **options: object) -> None:
        settings: dict[str, object] = {"allow_abbrev": False, "formatter_class": formatter}
        super().__init__(prog, **{**settings, **options})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=32, width=WIDTH)


def utf8(word: str) -> str:
    """What can be sent: words of a command line may hold bytes that are not UTF-8."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("not UTF-8 text") from None
    return word


def finite(word: str) -> float:
    """A number that JSON has."""
    if not math.isfinite(value := float(word)):
        raise argparse.ArgumentTypeError(f"{word} is not a finite number")
    return value


def tcp_port(word: str) -> int:
    value = int(word)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{word} is not between 1 and 65535")
    return value


def check_url(name: str, word: str) -> None:
    """Raise ConfigError, naming the option, for what is no address of HTTP."""
    try:
        parts = urlsplit(word)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bad port, a bracket that is not closed
        sound = False
    if not sound or not word.isascii() or not word.isprintable() or " " in word:
        raise ConfigError(f"{name} {word!a}: it must begin with http:// or https:// and a host")


def without_keys(argv: list[str]) -> tuple[list[str], list[str]]:
    """`argv` without `--api-key`, and the keys that stood behind it, as argparse reads them."""
    most = 1 if argv[:1] and argv[0] in OF_ONE_KEY else len(argv)
    rest: list[str] = []
    keys: list[str] = []
    room = 0
    for word in argv:
        if word == KEY_FLAG:
            room = most
        elif word.startswith(KEY_FLAG + "="):
            keys.append(word.partition("=")[2])
            room = 0
        elif room and not word.startswith("-"):
            keys.append(word)
            room -= 1
        else:
            rest.append(word)
            room = 0
    return rest, keys
