"""What `octavo chat` and `octavo complete` share: a line from the user, an answer as it comes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from octavo.services.client.address import Address, Refused, add_address, first_model
from octavo.services.client.events import Piece, Timer, stream
from octavo.shared.arguments import Parser, finite, utf8
from octavo.shared.errors import ConfigError
from octavo.shared.style import Style

STOPPED, FAILED = 130, 1
PROMPT = "> "


def make_parser(name: str, description: str) -> Parser:
    parser = Parser(f"octavo {name}", description=description)
    add_address(parser)
    parser.add_argument(
        "--model-name", type=utf8, metavar="NAME", help="Default: the server's first model."
    )
    parser.add_argument(
        "-q", "--quick", type=utf8, metavar="TEXT", help="Ask this, print the answer, end."
    )
    parser.add_argument("--max-tokens", type=int, metavar="N", help="Of an answer, at most.")
    parser.add_argument("--temperature", type=finite, metavar="X", help="0: the likeliest tokens.")
    parser.add_argument(
        "--stats", action="store_true", help="After an answer, its time to first token and speed."
    )
    return parser


class Talker:
    """Sends what is asked and prints what comes."""

    def __init__(
        self,
        args: argparse.Namespace,
        client: httpx.Client,
        address: Address,
        environ: Mapping[str, str],
    ) -> None:
        self._client = client
        self._address = address
        self._style = Style.of(sys.stdout, environ)
        self._stats = bool(args.stats)
        named = args.model_name or first_model(client, address)
        wishes = {"max_tokens": args.max_tokens, "temperature": args.temperature}
        self._body = {"model": named, **{k: v for k, v in wishes.items() if v is not None}}
        self.stopped = False
        """Whether the last answer was, by Ctrl-C."""

    def ask(self, path: str, body: dict[str, Any]) -> str:
        """The answer's text, or what of it came before Ctrl-C. Raises Refused; ConfigError where
        nobody answers."""
        timer, said = Timer(), ""
        self.stopped = False
        try:
            for piece in stream(self._client, path, {**self._body, **body}, timer):
                self._print(piece)
                said += "" if piece.thought else piece.text
        except KeyboardInterrupt:
            self.stopped = True
        except httpx.RequestError as error:
            if timer.first is None:
                raise self._address.nobody() from error
            raise Refused("the server ended the stream") from error
        finally:
            print(self._style.paint(" [stopped]", "dim") if self.stopped else "", flush=True)
        if self._stats and not self.stopped:
            print(self._style.paint(timer.summary(), "dim"), file=sys.stderr, flush=True)
        return said

    def _print(self, piece: Piece) -> None:
        text = self._style.paint(piece.text, "dim") if piece.thought else piece.text
        print(text, end="", flush=True)

    def note(self, text: str) -> None:
        print(self._style.paint(text, "dim"), flush=True)


def converse(
    args: argparse.Namespace,
    environ: Mapping[str, str],
    begin: Callable[[Talker], Callable[[str], bool]],
) -> int:
    """One question, or one after the other until `begin`'s listener returns False.

    0 all was answered, 1 an error came instead, 130 the only answer was stopped. Raises ConfigError
    where no server answers.
    """
    address = Address.of(args, environ)
    with address.connect() as client:
        talker = Talker(args, client, address, environ)
        listener = begin(talker)
        if args.quick is not None:
            listener(args.quick)
            return STOPPED if talker.stopped else 0
        return _session(listener, talker)


def _session(listener: Callable[[str], bool], talker: Talker) -> int:
    typed, code = sys.stdin.isatty(), 0
    if typed:
        import readline  # noqa: F401  gives input() its editing and history
    while True:
        try:
            line = _typed_line() if typed else sys.stdin.readline()
            if not line or (line.strip() and not listener(line.rstrip("\n"))):
                return 0 if typed else code
        except (Refused, ConfigError) as error:  # the next one may be answered again
            code = FAILED
            print(f"octavo: error: {error.message}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            if not typed:
                raise
            talker.note("(/exit or Ctrl-D leaves)")


def _typed_line() -> str:
    """With its end; nothing after Ctrl-D."""
    try:
        return input(PROMPT) + "\n"
    except EOFError:
        print()
        return ""
