"""`octavo admin`: the client of the admin socket."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from octavo.services.supervisor.admin import ask, default_path
from octavo.shared.arguments import Parser

COMMANDS = {
    "status": "what runs, and since when",
    "restart-frontends": "replace the HTTP processes; no request is lost",
    "restart-workers": "replace the workers; streams pause",
    "drain": "stop once the requests in flight have ended, as SIGTERM does",
}


def admin(argv: list[str]) -> int:
    """0 done. Raises ConfigError where no server answers."""
    args = make_parser().parse_args(argv)
    answer = ask(args.socket or default_path(args.port), args.command)
    print(json.dumps(answer, indent=2))
    return 0


def make_parser() -> Parser:
    parser = Parser(
        "octavo admin",
        description="Ask a server of this machine and user; of another user only root may.",
        epilog="\n".join(f"{name:20}{text}" for name, text in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=list(COMMANDS))
    parser.add_argument("--port", type=int, default=8000, help="the server's port (default 8000)")
    parser.add_argument("--socket", type=Path, metavar="PATH", help="the server's --admin-socket")
    return parser
