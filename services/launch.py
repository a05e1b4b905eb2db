"""The command `octavo`.

Nothing is imported here but what every Python has loaded or loads in a moment: a signal that comes
early must find its handler.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from octavo.shared.standard_streams import open_standard_streams

UNFINISHED = 1
"""As of a batch that is not all answered, of kernels that are not all compiled."""
BAD_USAGE = 2
ALL = "all"
INTERRUPTED, READER_GONE = 130, 141
"""As of processes that SIGINT or SIGPIPE ended."""
Environ = Mapping[str, str]


class Command(NamedTuple):
    """`arguments` and `summary` are its line in `octavo --help`. `told_to_stop`: the exit code
    after a SIGTERM or SIGINT that comes before it sees to them itself; None: what they do usually.
    """

    group: str
    arguments: str
    summary: str
    run: Callable[[list[str], Environ], int]
    told_to_stop: int | None = None


def main() -> None:
    command = COMMANDS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if command is not None and command.told_to_stop is not None:
        _leave_when_told(command.told_to_stop)
    open_standard_streams()
    hide_keys(sys.argv[1:])
    sys.exit(run(sys.argv[1:], os.environ))


def hide_keys(argv: list[str]) -> None:
    """Start again without `--api-key`, whose value everybody on this machine can read: the
    variable means the same, and is ours alone to read."""
    from octavo.shared.arguments import without_keys

    rest, keys = without_keys(argv)
    movable = all(re.fullmatch(r"[^,\s]+", key) for key in keys)  # else the variable says another
    if keys and movable and argv[0] != "check-config":  # which tells where values stand
        start = sys.orig_argv[1 : len(sys.orig_argv) - len(argv)]
        environ = {**os.environ, "OCTAVO_API_KEY": " ".join(keys)}
        os.execve(sys.executable, [sys.executable, *start, *rest], environ)


def run(argv: list[str], environ: Environ) -> int:
    """Run one command; returns the exit code."""
    first, rest = (argv[0], argv[1:]) if argv else ("", [])
    if first in ("--version", "version"):
        from octavo.shared.version import VERSION

        print(f"octavo {VERSION}")
        return 0
    asked, _, page = first.partition("=")
    if asked in ("--help", "-h", "help"):
        return show_help(page or next(iter(rest), ""), environ)
    if first in COMMANDS:
        return explained(COMMANDS[first], rest, environ)
    return unknown(first)


def show_help(about: str, environ: Environ) -> int:
    """Of everything, of a command, or of those options of the server that a word chooses."""
    if about in COMMANDS:
        return explained(COMMANDS[about], ["--help"], environ)
    if about in ("", ALL):
        print(usage(), end="")
        return explained(COMMANDS["serve"], [f"--help={about}"], environ) if about else 0
    if nearest_to(about):
        return unknown(about)
    return explained(COMMANDS["serve"], [f"--help={about}"], environ)


def unknown(command: str) -> int:
    """Say what there is, and what may have been meant."""
    nearest = nearest_to(command)
    if command:
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        print(f"octavo: error: unknown command {command}{hint}\n", file=sys.stderr)
    print(usage(), end="", file=sys.stderr)
    return BAD_USAGE


def nearest_to(command: str) -> list[str]:
    """What may have been meant; empty: nothing there is."""
    import difflib

    return difflib.get_close_matches(command, COMMANDS, n=1)


def explained(command: Command, argv: list[str], environ: Environ) -> int:
    """What is wrong with the user's settings or files is said in a line, not a traceback."""
    from octavo.shared.errors import StartError

    try:
        return command.run(argv, environ)
    except StartError as error:
        from octavo.services.supervisor.supervisor import explain

        explain(error)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        if command.group == SERVING:
            raise
        # Whoever read our output has seen enough, as `head` does; the exit flushes it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE


def usage() -> str:
    """Every command by its group."""
    lines = ["usage: octavo COMMAND ...            octavo COMMAND --help tells more"]
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        lines += ["", group]
        lines += [
            f"  {f'{name} {command.arguments}':34}{command.summary}"
            for name, command in COMMANDS.items()
            if command.group == group
        ]
    return "\n".join([*lines, "", "  octavo --version", ""])


def serve(argv: list[str], environ: Environ) -> int:
    """`octavo serve`: 0 stopped on request, 1 a bug, 2 bad settings or model, 70 a crash loop, 75
    port or GPU in use."""
    started = time.monotonic()
    from octavo.services.supervisor import listener
    from octavo.services.supervisor.children import Spawner
    from octavo.services.supervisor.resolve import resolve
    from octavo.services.supervisor.settings import read_settings
    from octavo.services.supervisor.supervisor import supervise
    from octavo.shared.log import setup_logging

    settings = read_settings(argv, environ)
    setup_logging("supervisor", settings.log_level, settings.server.log_format)
    given = settings.server
    with contextlib.ExitStack() as bounds:
        bound, metrics = bounds.enter_context(listener.bind(given.host, given.port)), None
        if given.metrics_port is not None:
            other = listener.bind(given.metrics_host, given.metrics_port, "--metrics-port")
            metrics = bounds.enter_context(other)
        server, model = resolve(settings.server, environ)
        os.umask(0o077)  # of what was downloaded others may have use, of sockets and traces not
        return supervise(
            server,
            model,
            bound,
            Spawner(environ),
            metrics=metrics,
            log_level=settings.log_level,
            started=started,
        )


def fill_kernel_cache(argv: list[str], environ: Environ) -> int:
    """`octavo compile`: 0 all is compiled, 1 it failed, 2 bad settings or no GPU."""
    from octavo.services.supervisor.children import Spawner
    from octavo.services.supervisor.compile_kernels import compile_kernels, without_weights
    from octavo.services.supervisor.resolve import resolve
    from octavo.services.supervisor.settings import read_settings
    from octavo.shared.log import setup_logging

    settings = read_settings(argv, environ, "compile")
    setup_logging("compile", settings.log_level, settings.server.log_format)
    server, model = resolve(without_weights(settings.server), environ)
    return compile_kernels(server, model, Spawner(environ), settings.log_level)


def answer_batch(argv: list[str], environ: Environ) -> int:
    """`octavo run-batch`: 0 all answered, 1 not all, 2 bad settings or files, 75 output in use."""
    from octavo.services.batch.command import run_batch

    return run_batch(argv, environ)


def administer(argv: list[str], environ: Environ) -> int:
    """`octavo admin`: 0 done, 2 no server answers."""
    from octavo.services.supervisor.admin_command import admin

    return admin(argv)


def plan_memory(argv: list[str], environ: Environ) -> int:
    """`octavo plan`: 0 it fits, 1 it does not, 2 bad settings."""
    from octavo.services.plan.command import plan

    return plan(argv, environ)


def check_config(argv: list[str], environ: Environ) -> int:
    """`octavo check-config`: 0 it is sound, 2 it is not."""
    from octavo.services.supervisor import check_config

    return check_config.check_config(argv, environ)


def measure(argv: list[str], environ: Environ) -> int:
    """`octavo bench`: 0, 1 every request failed, 2 bad arguments or no server."""
    from octavo.services.client.bench import bench

    return bench(argv, environ)


def complete_shell(argv: list[str], environ: Environ) -> int:
    """`octavo completion`: 0, 2 an unknown shell."""
    from octavo.services.completion import completion

    return completion(argv, {name: command.summary for name, command in COMMANDS.items()})


def verify_model(argv: list[str], environ: Environ) -> int:
    """`octavo verify`: 0 as transformers computes it, 1 not, 2 bad settings."""
    from octavo.services.verify.command import verify

    return verify(argv, environ)


def examine(argv: list[str], environ: Environ) -> int:
    """`octavo doctor`: 0 nothing is wrong, 1 something is, 2 bad arguments."""
    from octavo.services.doctor.command import doctor

    return doctor(argv, environ)


def show_status(argv: list[str], environ: Environ) -> int:
    """`octavo status`: 0, 2 no server answers."""
    from octavo.services.client.status import status

    return status(argv, environ)


def chat_with(argv: list[str], environ: Environ) -> int:
    """`octavo chat`: 0, 1 an error came for an answer, 2 no server answers."""
    from octavo.services.client.chat import chat

    return chat(argv, environ)


def complete_texts(argv: list[str], environ: Environ) -> int:
    """`octavo complete`: 0, 1 an error came for an answer, 2 no server answers."""
    from octavo.services.client.complete import complete

    return complete(argv, environ)


def _leave_when_told(code: int) -> None:
    """Stop before anything was started. A download's threads would delay any other way out."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(code))


SERVING, BEFORE, BESIDE = "Serve", "Before serving", "Beside a running server"
OTHER = "This command line"
COMMANDS = {
    "serve": Command(SERVING, "[MODEL] [flags]", "serve a model over HTTP", serve, 0),
    "run-batch": Command(
        SERVING, "-i FILE -o FILE [MODEL]", "answer a file of requests", answer_batch, UNFINISHED
    ),
    "plan": Command(
        BEFORE, "[MODEL] [flags]", "what memory it takes, and whether it fits", plan_memory
    ),
    "verify": Command(
        BEFORE, "[MODEL] [flags]", "its logits beside those of transformers", verify_model
    ),
    "doctor": Command(BEFORE, "[MODEL] [--port N]", "what is wrong with this machine", examine),
    "check-config": Command(
        BEFORE, "[MODEL] [flags]", "the effective configuration and its sources", check_config
    ),
    "compile": Command(
        BEFORE,
        "[MODEL] [flags]",
        "compile the kernels that serving needs",
        fill_kernel_cache,
        UNFINISHED,
    ),
    "admin": Command(BESIDE, "COMMAND", "ask a server of this machine and user", administer),
    "status": Command(BESIDE, "[--once]", "a live view of a server", show_status),
    "chat": Command(BESIDE, "[-q TEXT]", "talk to the model of a server", chat_with),
    "complete": Command(BESIDE, "[-q TEXT]", "let it continue texts", complete_texts),
    "bench": Command(BESIDE, "[flags]", "load it, and measure how it bears that", measure),
    "completion": Command(
        OTHER, "SHELL", "completion of commands for bash, zsh, fish", complete_shell
    ),
}


if __name__ == "__main__":
    main()
