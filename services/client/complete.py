"""`octavo complete`: texts that a running server continues."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from octavo.services.client import talk
from octavo.services.client.talk import Talker
from octavo.shared.arguments import Parser

PATH = "/v1/completions"


def make_parser() -> Parser:
    return talk.make_parser(
        "complete", "Let a running server continue what is typed, each line by itself."
    )


def complete(argv: list[str], environ: Mapping[str, str]) -> int:
    """0, or 1 where an error came instead of an answer. Raises ConfigError without a server."""
    args = make_parser().parse_args(argv)

    def begin(talker: Talker) -> Callable[[str], bool]:
        def hear(line: str) -> bool:
            if args.quick is None and line.strip() in ("/exit", "/quit", "/bye"):
                return False
            talker.ask(PATH, {"prompt": line})
            return True

        return hear

    return talk.converse(args, environ, begin)
