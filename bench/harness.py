"""What the benchmarks of the library share: a model made on the spot, draws, timed generation."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import shapes
from octavo.llm import LLM, SamplingParams, StructuredOutputsParams
from octavo.shared.messages import Outputs

TOP_ID = 10_000
"""Prompt ids are drawn from 0 to this."""


@dataclass(frozen=True)
class Request:
    prompt: list[int]
    output_length: int


@dataclass(frozen=True)
class Arrival:
    """A message of the engine that brought tokens."""

    time: float
    tokens: int


def draw_requests(
    seed: int, count: int, lengths: tuple[int, int] = (100, 1024), top_id: int = TOP_ID
) -> list[Request]:
    """nano-vllm's workload: all prompts first (length, then ids), then all output lengths."""
    draw = random.Random(seed)
    prompts = [
        [draw.randint(0, top_id) for _ in range(draw.randint(*lengths))] for _ in range(count)
    ]
    return [Request(prompt, draw.randint(*lengths)) for prompt in prompts]


def other_ids(requests: Sequence[Request], seed: int, top_id: int = TOP_ID) -> list[Request]:
    """The same lengths with other prompts, so that the prefix cache knows nothing of them."""
    draw = random.Random(f"ids {seed}")
    return [
        Request([draw.randint(0, top_id) for _ in each.prompt], each.output_length)
        for each in requests
    ]


def pure_steps(arrivals: Sequence[Arrival], batch: int) -> list[float]:
    """Seconds of each decode step at `batch`: it, and the step before, brought `batch` tokens.

    The first such step is left out: the one before it may still have held prompt tokens.
    """
    full = [arrival.tokens == batch for arrival in arrivals]
    return [
        arrivals[i].time - arrivals[i - 1].time
        for i in range(2, len(arrivals))
        if all(full[i - 2 : i + 1])
    ]


@contextlib.contextmanager
def model_folder(model: str) -> Iterator[str]:
    """`model` itself, or for the name of a shape a temporary folder with that shape."""
    if model not in shapes.SHAPES:
        yield model
        return
    with tempfile.TemporaryDirectory(prefix="octavo-bench-") as folder:
        path = Path(folder) / model
        shapes.write(model, path)
        yield str(path)


class Bench:
    """A running engine, and the arrival of every message of tokens since the last `take`."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self._arrivals: list[Arrival] = []
        self._draw = random.Random("prompts")
        self.top_id = min(TOP_ID, llm.get_tokenizer().vocab_size - 1)
        engine = llm._engine
        receive = engine.receive

        def recording() -> Outputs:
            outputs = receive()
            if outputs.token_ids:
                self._arrivals.append(Arrival(time.perf_counter(), len(outputs.token_ids) // 4))
            return outputs

        engine.receive = recording  # type: ignore[method-assign]

    def prompt(self, length: int) -> list[int]:
        """Never the same twice."""
        return [self._draw.randint(0, self.top_id) for _ in range(length)]

    def take(self) -> list[Arrival]:
        taken, self._arrivals = self._arrivals, []
        return taken

    def generate(
        self,
        requests: Sequence[Request],
        temperature: float = 0.0,
        forms: Sequence[StructuredOutputsParams] = (),
    ) -> float:
        """Seconds for all of them, each to its full length; the first have these forms."""
        params = [
            SamplingParams(
                temperature=temperature,
                ignore_eos=True,
                max_tokens=each.output_length,
                structured_outputs=form,
            )
            for each, form in itertools.zip_longest(requests, forms)
        ]
        self.take()
        began = time.perf_counter()
        outputs = self._llm.generate([each.prompt for each in requests], params, use_tqdm=False)
        seconds = time.perf_counter() - began
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        wanted = sum(each.output_length for each in requests)
        if tokens != wanted:
            raise SystemExit(f"{tokens} tokens came, {wanted} were asked for: no figures")
        return seconds

    def output_rate(self, requests: Sequence[Request], temperature: float) -> float:
        """Output tokens a second."""
        wanted = sum(each.output_length for each in requests)
        return wanted / self.generate(requests, temperature)

    def first_token(self, prompt: list[int]) -> float:
        """Milliseconds to the first token on an idle engine."""
        self.take()
        params = SamplingParams(temperature=0.0, ignore_eos=True, max_tokens=1)
        began = time.perf_counter()
        self._llm.generate([prompt], params, use_tqdm=False)
        return (self.take()[0].time - began) * 1e3

    def decode_step(
        self, batch: int, prompt: int, output: int, forms: Sequence[StructuredOutputsParams] = ()
    ) -> float:
        """Milliseconds of a decode step, median over one run of `batch` requests."""
        requests = [Request(self.prompt(prompt), output) for _ in range(batch)]
        self.generate(requests, forms=forms)
        steps = pure_steps(self.take(), batch)
        if not steps:
            raise SystemExit(f"no decode step of {batch}: raise max_num_seqs or the output length")
        return statistics.median(steps) * 1e3

    def warm_up(self) -> None:
        """Prefill, decode and sampling once each, on prompts that no measure uses."""
        self.generate([Request(self.prompt(512), 16) for _ in range(8)])
        self.generate([Request(self.prompt(512), 8 + i % 16) for i in range(64)], 0.6)
        self.generate([Request(self.prompt(2048), 2)])

    def cached_tokens(self, prompt: list[int]) -> int:
        """Tokens of `prompt` that the prefix cache had."""
        params = SamplingParams(temperature=0.0, max_tokens=1)
        [output] = self._llm.generate([prompt], params, use_tqdm=False)
        return output.num_cached_tokens


@contextlib.contextmanager
def running(model: str, engine_args: dict[str, Any]) -> Iterator[Bench]:
    """A warmed-up engine with random weights."""
    with model_folder(model) as folder, LLM(folder, load_format="dummy", **engine_args) as llm:
        bench = Bench(llm)
        bench.warm_up()
        yield bench


def bounds(text: str) -> tuple[int, int]:
    """Read `512` or `100:1024`."""
    low, _, high = text.partition(":")
    return int(low), int(high or low)


def setting(text: str) -> tuple[str, Any]:
    """Read `max_num_seqs=512`; the value is JSON or else text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def add_engine_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        type=setting,
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="settings of the engine, as max_num_seqs=512 enable_prefix_caching=false",
    )
