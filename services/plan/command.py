"""`octavo plan`: whether a model fits a device, without loading it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from octavo.services.plan.advice import advise
from octavo.services.plan.card import Card, host_card, named_card, present_card
from octavo.services.plan.estimate import Estimate, estimate
from octavo.services.plan.report import as_json, lines
from octavo.services.supervisor.compile_kernels import without_weights
from octavo.services.supervisor.model_source import served_name
from octavo.services.supervisor.options import size, words
from octavo.services.supervisor.own_parser import own_parser
from octavo.services.supervisor.resolve import resolve
from octavo.services.supervisor.settings import read_settings
from octavo.services.supervisor.supervisor import explain
from octavo.shared.arguments import Parser
from octavo.shared.config import ServerConfig
from octavo.shared.errors import ConfigError, StartError

DOES_NOT_FIT = 1
LENGTHS = "1k,8k,32k"


def plan(argv: list[str], environ: Mapping[str, str]) -> int:
    """0 it fits, 1 it does not, 2 bad settings."""
    try:
        own, rest = make_parser().parse_known_args(argv)
        settings = read_settings(rest, environ, "plan")
        found = make_plan(settings.server, own.gpu, read_lengths(own.lengths), environ)
    except StartError as error:
        explain(error)
        return error.exit_code
    print(json.dumps(as_json(found), indent=2) if own.json else "\n".join(lines(found)))
    return 0 if found.fits else DOES_NOT_FIT


def make_parser() -> Parser:
    parser = own_parser(
        "plan",
        "[MODEL] [--gpu GPU] [--lengths N,N] [--json]",
        "How much memory a model takes, how many tokens its KV cache gets and how many "
        "requests run at once. Nothing is loaded, and no GPU is needed.",
    )
    parser.add_argument(
        "--gpu", help="H200, H100, A100-80, L40S, 4090, ... or its GiB; default: the one here."
    )
    parser.add_argument(
        "--lengths", default=LENGTHS, metavar="N,N", help=f"Tokens of requests ({LENGTHS})."
    )
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    return parser


def read_lengths(text: str) -> list[int]:
    try:
        found = [size(word) for word in words(text)]
    except ValueError as error:
        raise ConfigError(f"--lengths: {error}") from error
    if min(found) < 1:
        raise ConfigError("--lengths: a request has a token at least")
    return found


def make_plan(
    server: ServerConfig, gpu: str | None, lengths: list[int], environ: Mapping[str, str]
) -> Estimate:
    """Raises ConfigError."""
    name, dummy = served_name(server.engine.model), server.engine.load_format
    card = _card(server, gpu)
    engine = msgspec.structs.replace(server.engine, device="cuda" if card.is_gpu else "cpu")
    server = msgspec.structs.replace(server, engine=engine)
    # Of a model on the hub, the weights are not fetched; ranks may be more than GPUs here.
    visible = {key: text for key, text in environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    if gpu is not None:
        visible["CUDA_VISIBLE_DEVICES"] = ""
    resolved, info = resolve(without_weights(server), visible)
    engine = msgspec.structs.replace(resolved.engine, load_format=dummy)
    found = estimate(engine, info, name, card, lengths)
    return replace(found, advice=advise(found, info))


def _card(server: ServerConfig, gpu: str | None) -> Card:
    if gpu is not None:
        return named_card(gpu)
    return host_card() if server.engine.device == "cpu" else present_card()
