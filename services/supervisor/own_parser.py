"""Commands that take flags of their own beside those of the server: `octavo plan`, for one."""

from __future__ import annotations

import argparse
from typing import Any

from octavo.services.supervisor.help_pages import HelpPage, chosen, keep_only
from octavo.services.supervisor.settings import make_parser
from octavo.shared.arguments import Parser


def own_parser(command: str, usage: str, description: str) -> Parser:
    """`usage`: what follows the command's name, but for the server's flags."""
    parser = Parser(
        f"octavo {command}",
        usage=f"octavo {command} {usage} [flags of octavo serve]",
        description=description,
        add_help=False,
        epilog="Flags of the server: --help=all, --help=GROUP or --help=WORD.",
    )
    parser.add_argument(
        "-h",
        "--help",
        action=ShowBoth,
        command=command,
        metavar="all|GROUP|WORD",
        help="Show these flags, and the server's, of a group or that name a word.",
    )
    return parser


class ShowBoth(HelpPage):
    """`--help`: the command's own flags; with a word, the server's that it chooses, too."""

    def __init__(self, *names: Any, command: str, **options: Any) -> None:
        super().__init__(*names, **options)
        self._command = command

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        parser.print_help()
        if values:
            print()
            servers = make_parser(self._command)
            keep_only(servers, chosen(str(values)))
            servers.print_help()
        parser.exit()
