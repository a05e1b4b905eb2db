"""The command `octavo`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping

from octavo.shared.errors import StartError
from octavo.shared.log import setup_logging
from octavo.shared.version import VERSION

USAGE = """\
usage: octavo serve [MODEL] [flags]    serve a model over HTTP (octavo serve --help)
       octavo compile [MODEL] [flags]  compile the kernels that serving with these flags needs
       octavo run-batch -i FILE -o FILE [MODEL | --url URL] [flags]
                                       answer a file of requests (octavo run-batch --help)
       octavo plan [MODEL] [flags]     what memory it takes, and whether it fits
       octavo admin COMMAND            ask a running server (octavo admin --help)
       octavo --version
"""
BAD_USAGE = 2


def main() -> None:
    sys.exit(run(sys.argv[1:], os.environ))


def run(argv: list[str], environ: Mapping[str, str]) -> int:
    """Run one command; returns the exit code."""
    match argv:
        case ["serve", *rest]:
            return serve(rest, environ)
        case ["compile", *rest]:
            return fill_kernel_cache(rest, environ)
        case ["run-batch", *rest]:
            return answer_batch(rest, environ)
        case ["admin", *rest]:
            return administer(rest)
        case ["plan", *rest]:
            return plan_memory(rest, environ)
        case ["--version" | "version"]:
            print(f"octavo {VERSION}")
            return 0
        case ["--help" | "-h" | "help"]:
            print(USAGE, end="")
            return 0
    print(USAGE, end="", file=sys.stderr)
    return BAD_USAGE


def serve(argv: list[str], environ: Mapping[str, str]) -> int:
    """`octavo serve`: 0 stopped on request, 1 a bug, 2 bad settings, 70 a crash loop, 75 port in
    use."""
    started = time.monotonic()
    from octavo.services.supervisor import listener
    from octavo.services.supervisor.children import Spawner
    from octavo.services.supervisor.resolve import resolve
    from octavo.services.supervisor.settings import read_settings
    from octavo.services.supervisor.supervisor import explain, supervise

    _leave_when_told(0)
    try:
        settings = read_settings(argv, environ)
        setup_logging("supervisor", settings.log_level)
        with listener.bind(settings.server.host, settings.server.port) as bound:
            server, model = resolve(settings.server, environ)
            return supervise(
                server,
                model,
                bound,
                Spawner(environ),
                log_level=settings.log_level,
                started=started,
            )
    except StartError as error:
        explain(error)
        return error.exit_code


def fill_kernel_cache(argv: list[str], environ: Mapping[str, str]) -> int:
    """`octavo compile`: 0 all is compiled, 1 it failed, 2 bad settings or no GPU."""
    from octavo.services.supervisor.children import Spawner
    from octavo.services.supervisor.compile_kernels import (
        INTERRUPTED,
        compile_kernels,
        without_weights,
    )
    from octavo.services.supervisor.resolve import resolve
    from octavo.services.supervisor.settings import read_settings
    from octavo.services.supervisor.supervisor import explain

    _leave_when_told(INTERRUPTED)
    try:
        settings = read_settings(argv, environ, "compile")
        setup_logging("compile", settings.log_level)
        server, model = resolve(without_weights(settings.server), environ)
        return compile_kernels(server, model, Spawner(environ), settings.log_level)
    except StartError as error:
        explain(error)
        return error.exit_code


def answer_batch(argv: list[str], environ: Mapping[str, str]) -> int:
    """`octavo run-batch`: 0 all answered, 1 not all, 2 bad settings or files, 75 output in use."""
    from octavo.services.batch.command import INCOMPLETE, run_batch

    _leave_when_told(INCOMPLETE)
    return run_batch(argv, environ)


def administer(argv: list[str]) -> int:
    """`octavo admin`: 0 done, 2 no server answers."""
    from octavo.services.supervisor.admin_command import admin
    from octavo.services.supervisor.supervisor import explain

    try:
        return admin(argv)
    except StartError as error:
        explain(error)
        return error.exit_code


def plan_memory(argv: list[str], environ: Mapping[str, str]) -> int:
    """`octavo plan`: 0 it fits, 1 it does not, 2 bad settings."""
    from octavo.services.plan.command import plan

    return plan(argv, environ)


def _leave_when_told(code: int) -> None:
    """Stop before anything was started. A download's threads would delay any other way out."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(code))


if __name__ == "__main__":
    main()
