"""`octavo completion SHELL`: what a shell needs to complete commands, flags and files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

import shtab

from octavo.services.batch.command import make_parser as batch_parser
from octavo.services.client.bench import make_parser as bench_parser
from octavo.services.client.chat import make_parser as chat_parser
from octavo.services.client.complete import make_parser as complete_parser
from octavo.services.client.status import make_parser as status_parser
from octavo.services.doctor.command import make_parser as doctor_parser
from octavo.services.plan.command import make_parser as plan_parser
from octavo.services.supervisor.admin_command import make_parser as admin_parser
from octavo.services.supervisor.settings import COMMANDS as TAKING_OPTIONS
from octavo.services.supervisor.settings import make_parser as options_parser
from octavo.services.verify.command import make_parser as verify_parser
from octavo.shared.arguments import Parser

FILES = ("FILE", "PATH")
HOW = """\
Print a script for your shell. For bash, say:
  octavo completion bash > ~/.local/share/bash-completion/completions/octavo
for zsh:
  octavo completion zsh > "${fpath[1]}/_octavo"
for fish:
  octavo completion fish > ~/.config/fish/completions/octavo.fish"""

OWN: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "plan": plan_parser,
    "run-batch": batch_parser,
    "verify": verify_parser,
    "admin": admin_parser,
    "doctor": doctor_parser,
    "bench": bench_parser,
    "status": status_parser,
    "chat": chat_parser,
    "complete": complete_parser,
    "completion": lambda: make_parser(),
}
"""Flags that a command has besides, or instead of, those of `octavo serve`."""


def completion(argv: list[str], commands: Mapping[str, str]) -> int:
    """`commands`: each with its summary. Prints the script."""
    shell = make_parser().parse_args(argv).shell
    print(shtab.complete(whole_parser(commands), shell))
    return 0


def make_parser() -> Parser:
    parser = Parser(
        "octavo completion",
        description=HOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS)
    return parser


def whole_parser(commands: Mapping[str, str]) -> argparse.ArgumentParser:
    """One parser of everything, which exists for the shell's sake alone."""
    parser = argparse.ArgumentParser("octavo")
    parser.add_argument("--version", action="store_true", help="Print the version.")
    subcommands = parser.add_subparsers()
    for name, summary in commands.items():
        parents = [OWN[name]()] if name in OWN else []
        if name in TAKING_OPTIONS:
            parents.append(options_parser(name))
        # Each parent has a --help of its own.
        added = subcommands.add_parser(
            name, help=summary, parents=parents, add_help=not parents, conflict_handler="resolve"
        )
        _complete_files(added)
    return parser


def _complete_files(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        if action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.dest == "model":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
