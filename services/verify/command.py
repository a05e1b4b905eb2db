"""`octavo verify`: our logits beside transformers', for this checkpoint, dtype and flags.

Nothing here imports torch before it is needed: the command's arguments are read first.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from octavo.services.supervisor.bounds import check_range
from octavo.services.supervisor.model_source import served_name
from octavo.services.supervisor.own_parser import own_parser
from octavo.services.supervisor.resolve import resolve
from octavo.services.supervisor.settings import read_settings
from octavo.services.verify.prompts import TEXTS, encode
from octavo.shared.arguments import Parser, utf8
from octavo.shared.config import EngineConfig, ModelInfo
from octavo.shared.errors import ConfigError
from octavo.shared.log import setup_logging
from octavo.shared.style import Style

if TYPE_CHECKING:
    from octavo.services.verify.comparison import Difference

DIFFERENT = 1
LONGEST_PROMPT = 512
SHOWN = 30
HEAD = (
    f"{'prompt':{SHOWN}}{'tokens':>9}{'max abs':>10}{'max rel':>10}{'rel':>10}{'mean KL':>10}"
    f"{'top-1':>8}{'greedy':>9}"
)


def make_parser() -> Parser:
    parser = own_parser(
        "verify",
        "[MODEL] [--prompt TEXT] [--json]",
        "Compute the same prompts with transformers and with our model, and compare: "
        "logits after each token, and greedy continuations. The verdict is the exit code.",
    )
    parser.add_argument(
        "--prompt",
        type=utf8,
        action="append",
        metavar="TEXT",
        help="Instead of the built-in ones; repeatable.",
    )
    parser.add_argument(
        "--max-tokens", type=int, default=16, metavar="N", help="Of each continuation (16)."
    )
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    return parser


def verify(argv: list[str], environ: Mapping[str, str]) -> int:
    """0 the same within rounding, 1 different. Raises StartError for bad settings."""
    own, rest = make_parser().parse_known_args(argv)
    check_range("max-tokens", own.max_tokens, 1, 4096)
    settings = read_settings(rest, environ, "verify")
    setup_logging("verify", settings.log_level, settings.server.log_format)
    check(settings.server.engine)
    server, info = resolve(settings.server, environ)
    if info.pooling is not None:
        raise ConfigError("verify is for models that generate; this one pools")
    engine, name = server.engine, served_name(settings.server.engine.model)
    texts = tuple(own.prompt or TEXTS)[: engine.max_num_seqs]
    found = differences(engine, info, texts, own.max_tokens)
    same = all(one.ok for one in found)
    if own.json:
        rows = [
            {"prompt": t, **msgspec.structs.asdict(d)} for t, d in zip(texts, found, strict=True)
        ]
        print(
            json.dumps({"model": name, **_setting(engine), "ok": same, "prompts": rows}, indent=1)
        )
    else:
        print("\n".join(lines(name, engine, texts, found, Style.of(sys.stdout, environ))))
    return 0 if same else DIFFERENT


def check(engine: EngineConfig) -> None:
    if engine.load_format == "dummy":
        raise ConfigError("verify needs the checkpoint's weights: leave --load-format dummy out")
    if engine.tensor_parallel_size > 1:
        raise ConfigError("verify runs on one rank: leave --tensor-parallel-size out")


def differences(
    engine: EngineConfig, info: ModelInfo, texts: tuple[str, ...], count: int
) -> list[Difference]:
    """Of each prompt. transformers comes first and goes before ours: both may not fit at once."""
    import torch
    import transformers

    from octavo.services.verify.comparison import compare
    from octavo.services.verify.ours import Ours
    from octavo.services.verify.reference import answers

    quiet: Any = transformers.logging
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    longest = min(engine.max_model_len or 1, engine.max_num_batched_tokens or 1)
    if longest <= count:
        raise ConfigError(f"--max-tokens {count} leaves no room for a prompt in {longest} tokens")
    prompts = encode(engine.tokenizer or engine.model, texts, min(longest - count, LONGEST_PROMPT))
    dtype, device = getattr(torch, engine.dtype), torch.device(engine.device)
    theirs = answers(engine.model, prompts, count, dtype, device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    most = max(len(prompt) for prompt in prompts) + count
    ours = Ours(engine, info, len(prompts), most, dtype, device)
    greedy = ours.continuations(prompts, count)
    return [
        compare(answer, ours.logits(answer.ids), ids, engine.dtype)
        for answer, ids in zip(theirs, greedy, strict=True)
    ]


def _setting(engine: EngineConfig) -> dict[str, Any]:
    return {"dtype": engine.dtype, "device": engine.device, "deterministic": engine.deterministic}


def lines(
    name: str,
    engine: EngineConfig,
    texts: Sequence[str],
    found: Sequence[Difference],
    style: Style,
) -> Iterator[str]:
    yield f"{name}  {engine.dtype} on {engine.device}, beside transformers"
    yield ""
    yield style.paint(HEAD, "dim")
    for text, one in zip(texts, found, strict=True):
        row = _row(text, one)
        yield row if one.ok else style.paint(row, "red")
    yield ""
    wrong = sum(not one.ok for one in found)
    if wrong:
        yield f"DIFFERENT: {wrong} of {len(found)} prompts are further apart than rounding explains"
    else:
        yield f"The same within {engine.dtype}'s rounding, {len(found)} prompts."


def _row(text: str, one: Difference) -> str:
    shown = " ".join(text.split())
    shown = shown if len(shown) < SHOWN else shown[: SHOWN - 4] + "..."
    counts = f"{one.prompt_tokens}+{one.greedy_tokens}"
    greedy = f"{one.greedy_equal}/{one.greedy_tokens}"
    return (
        f"{shown:{SHOWN}}{counts:>9}{one.max_abs:>10.2g}{one.max_relative:>10.1e}"
        f"{one.relative:>10.1e}{one.mean_kl:>10.1e}{100 * one.top1:>7.1f}%{greedy:>9}"
        + ("" if one.tie is None else f"  parts at a gap of {one.tie:.2g}")
    )
