"""`octavo run-batch`: arguments, a server, the run, and what came of it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

from octavo.services.batch.answers import AnswerFile
from octavo.services.batch.client import Address
from octavo.services.batch.jobs import Job, read_jobs, survey
from octavo.services.batch.private_server import private_server
from octavo.services.batch.run import Watch, run_jobs, still_to_do
from octavo.services.batch.tally import Tally
from octavo.services.supervisor.bounds import check_range
from octavo.services.supervisor.children import Spawner
from octavo.services.supervisor.own_parser import own_parser
from octavo.services.supervisor.resolve import resolve
from octavo.services.supervisor.settings import Settings, read_settings
from octavo.services.supervisor.signals import StopRequested, StopSignals
from octavo.services.supervisor.supervisor import explain
from octavo.shared.arguments import Parser, check_url
from octavo.shared.errors import ConfigError, StartError
from octavo.shared.log import setup_logging

INCOMPLETE = 1
MAX_CONCURRENCY = 4096
PATIENCE = 10.0
AGAIN = "the same command goes on where this one stopped"


def run_batch(argv: list[str], environ: Mapping[str, str]) -> int:
    """0 all requests have good answers, 1 some have none, 2 bad settings or files, 75 the output
    is another run's."""
    try:
        own, rest = parse(argv)
        settings = read_settings(rest, environ, "run-batch")
        setup_logging("run-batch", settings.log_level, settings.server.log_format)
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request
        return _run(own, settings, environ)
    except StartError as error:
        explain(error)
        return error.exit_code


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our own arguments, and those that are the server's."""
    parser = make_parser()
    own, rest = parser.parse_known_args(argv)
    check_range("concurrency", own.concurrency, 1, MAX_CONCURRENCY)
    if own.url is not None:
        check_url("--url", own.url)
    return own, rest


def make_parser() -> Parser:
    parser = own_parser(
        "run-batch",
        "-i FILE -o FILE [MODEL | --url URL]",
        "Answer a file of requests, in the form of OpenAI's batches, into another. A "
        "run that was stopped is continued by the same command.",
    )
    parser.add_argument("-i", "--input-file", required=True, type=Path, metavar="FILE")
    parser.add_argument("-o", "--output-file", required=True, type=Path, metavar="FILE")
    parser.add_argument("--url", help="Ask this server rather than one started for the batch.")
    parser.add_argument(
        "--concurrency", type=int, default=256, metavar="N", help="Requests at a time (256)."
    )
    return parser


def _run(own: argparse.Namespace, settings: Settings, environ: Mapping[str, str]) -> int:
    total, names = survey(own.input_file)
    if own.output_file.exists() and own.output_file.samefile(own.input_file):
        raise ConfigError("the output file is the input file")
    with contextlib.closing(AnswerFile(own.output_file)) as answers:
        tally = Tally(total, before=len(names & answers.done))
        trouble = None
        if not tally.complete:
            jobs = still_to_do(read_jobs(own.input_file), answers.done)
            trouble = _answer(own, settings, environ, jobs, answers, tally)
    print(tally.summary(), flush=True)
    if trouble is not None:
        print(f"octavo: {trouble}; {AGAIN}", file=sys.stderr, flush=True)
    return 0 if tally.complete else INCOMPLETE


def running_server(url: str, key: str | None) -> Address:
    """Raises ConfigError where none answers: a run that never began is no run to be continued."""
    address = Address(url.rstrip("/").removesuffix("/v1"), key=key)
    try:
        httpx.get(f"{address.url}/health", timeout=PATIENCE)
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise ConfigError(f"no server answers at {address.url}") from error
    return address


def _answer(
    own: argparse.Namespace,
    settings: Settings,
    environ: Mapping[str, str],
    jobs: Iterator[Job],
    answers: AnswerFile,
    tally: Tally,
) -> str | None:
    """Answer the jobs; returns what ended the run early, if anything did."""
    target = None if own.url else resolve(settings.server, environ)
    with contextlib.ExitStack() as cleanup:
        signals = cleanup.enter_context(StopSignals())
        if target is None:
            address = running_server(own.url, next(iter(settings.server.api_key), None))
            watch = Watch(signals.fd, signals.raise_if_received)
        else:
            started = private_server(*target, Spawner(environ), signals, settings.log_level)
            try:
                address, watch = cleanup.enter_context(started)
            except StopRequested:
                return "stopped"
        return asyncio.run(run_jobs(jobs, address, watch, answers, tally, own.concurrency))
