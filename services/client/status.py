"""`octavo status`: a live view of a running server."""

from __future__ import annotations

import contextlib
import select
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from octavo.services.client.address import Address, add_address
from octavo.services.client.board import board
from octavo.services.client.poll import Seen, Watcher
from octavo.services.client.samples import Page
from octavo.shared.arguments import Parser
from octavo.shared.errors import ConfigError
from octavo.shared.style import Style

WINDOW = 10.0
"""Seconds that a live view's rates and latencies are of."""
SETTLE = 1.0
"""Seconds between the two looks from which `--once` gets its rates."""
SHORTEST, LONGEST = 0.2, 3600.0
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def make_parser() -> Parser:
    parser = Parser(
        "octavo status",
        description="What a running server does: state, requests, KV cache, speed, latencies and "
        "processes. On a terminal a live view, until q or Ctrl-C.",
    )
    add_address(parser)
    parser.add_argument("--socket", type=Path, metavar="PATH", help="The server's --admin-socket.")
    parser.add_argument("--once", action="store_true", help="Print once and end.")
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="SECONDS", help="Between looks (1)."
    )
    return parser


def status(argv: list[str], environ: Mapping[str, str]) -> int:
    """0. Raises ConfigError where no server answers."""
    args = make_parser().parse_args(argv)
    if not SHORTEST <= args.interval <= LONGEST:
        raise ConfigError(f"--interval must be between {SHORTEST} and {LONGEST:.0f}")
    address = Address.of(args, environ)
    style = Style.of(sys.stdout, environ)
    with address.connect() as client:
        watcher = Watcher(client, address, args.socket)
        first = watcher.look()
        if first is None:
            raise address.nobody()
        if args.once or not sys.stdout.isatty():
            print_once(watcher, first, address.url, style)
        else:
            watch(watcher, first, address.url, style, args.interval)
    return 0


def print_once(watcher: Watcher, first: Seen, url: str, style: Style) -> None:
    """Rates of a moment, latencies of the server's life."""
    time.sleep(SETTLE)
    seen = watcher.look() or first
    print("\n".join(board(url, seen, first.page, None, style)))


def watch(watcher: Watcher, first: Seen, url: str, style: Style, interval: float) -> None:
    """Draw until the user has seen enough. A server that goes away may come back."""
    pages: deque[Page] = deque()
    seen: Seen | None = first
    with _screen():
        while True:
            if seen is not None and seen.page is not None:
                pages.append(seen.page)
            while len(pages) > 2 and pages[-1].at - pages[0].at > WINDOW:
                pages.popleft()
            shown = seen or Seen("no answer", None, None)
            _draw(board(url, shown, pages[0] if pages else None, WINDOW, style))
            if _wants_to_leave(interval):
                return
            seen = watcher.look()


def _draw(lines: Iterator[str]) -> None:
    text = "".join(f"{line}{REST_OF_LINE}\r\n" for line in lines)
    sys.stdout.write(f"{HOME}{text}\r\nq leaves{REST_OF_LINE}{REST_OF_SCREEN}")
    sys.stdout.flush()


def _wants_to_leave(seconds: float) -> bool:
    """Whether q or Ctrl-C came within that time."""
    try:
        if not sys.stdin.isatty():
            time.sleep(seconds)
            return False
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([sys.stdin], [], [], left)[0] and sys.stdin.read(1) in ("q", "", "Q"):
                return True
        return False
    except KeyboardInterrupt:
        return True


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """The terminal's other screen, keys unbuffered; all as before afterwards."""
    keys = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    sys.stdout.write(ENTER)
    try:
        if keys is not None:
            tty.setcbreak(sys.stdin)
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        if keys is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, keys)
        sys.stdout.write(LEAVE)
        sys.stdout.flush()
