"""`octavo doctor`: what on this machine would keep a server from running well, and what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

import msgspec

from octavo.services.doctor.finding import Finding
from octavo.services.doctor.gpu import gpus, kernels
from octavo.services.doctor.model import model
from octavo.services.doctor.packages import packages, python
from octavo.services.doctor.system import disks, limits, port, shared_memory
from octavo.shared.arguments import Parser
from octavo.shared.style import Style

SICK = 1
COLORS = {"ok": "green", "warning": "yellow", "error": "red"}


def make_parser() -> Parser:
    parser = Parser(
        "octavo doctor",
        description="Examine this machine, and a model's directory if one is named. Every finding "
        "says what to do about it.",
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="Directory, or hub id.")
    parser.add_argument("--host", default="127.0.0.1", help="Address to be free (127.0.0.1).")
    parser.add_argument("--port", type=int, default=8000, help="Port to be free (8000).")
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    return parser


def doctor(argv: list[str], environ: Mapping[str, str]) -> int:
    """0 nothing is wrong, 1 something is."""
    args = make_parser().parse_args(argv)
    found = list(examine(args.model, args.host, args.port, environ))
    healthy = not any(finding.level == "error" for finding in found)
    if args.json:
        report = {"ok": healthy, "findings": found}
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        print("\n".join(lines(found, Style.of(sys.stdout, environ))))
    return 0 if healthy else SICK


def examine(
    name: str | None, host: str, number: int, environ: Mapping[str, str]
) -> Iterator[Finding]:
    yield python()
    yield from packages()
    yield from gpus()
    yield from kernels(environ)
    yield shared_memory()
    yield from limits()
    yield port(host, number)
    yield from disks(environ)
    if name is not None:
        yield from model(name)


def lines(found: list[Finding], style: Style) -> Iterator[str]:
    for finding in found:
        level = style.paint(f"{finding.level:8}", COLORS[finding.level])
        yield f"{level} {finding.name:16} {finding.text}"
        if finding.fix:
            yield f"{'':25} fix: {finding.fix}"
    counts = {level: sum(one.level == level for one in found) for level in ("error", "warning")}
    yield ""
    yield f"{counts['error']} errors, {counts['warning']} warnings"
