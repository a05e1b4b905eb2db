"""What the load generator asks for: lengths, prompts of random ids, moments of arrival."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from typing import Protocol

SIGMA = 1.1
SHORTEST, LONGEST = 4, 1024
FIRST_ID = 300
"""Below it many vocabularies have their special tokens."""


class Lengths(Protocol):
    def draw(self, draw: random.Random) -> int: ...


@dataclass(frozen=True)
class Uniform:
    low: int
    high: int

    def draw(self, draw: random.Random) -> int:
        return draw.randint(self.low, self.high)


@dataclass(frozen=True)
class Lognormal:
    """As conversations are: many short ones, few long ones. `mean` is that before clipping."""

    mean: float
    sigma: float = SIGMA

    def draw(self, draw: random.Random) -> int:
        middle = math.log(self.mean) - self.sigma**2 / 2
        return min(max(round(draw.lognormvariate(middle, self.sigma)), SHORTEST), LONGEST)


def read_lengths(text: str) -> Lengths:
    """Read `512`, `100:1024`, `lognormal:202` or `lognormal:202:1.1`."""
    kind, _, rest = text.partition(":")
    if kind == "lognormal":
        return Lognormal(*(float(part) for part in rest.split(":")))
    return Uniform(int(kind), int(rest or kind))


@dataclass(frozen=True)
class Workload:
    """`shared_prefix` ids that all prompts begin with, then ids of each prompt's own."""

    requests: int
    inputs: Lengths
    outputs: Lengths
    vocab: int
    temperature: float = 0.0
    shared_prefix: int = 0

    def bodies(self, model: str, seed: str) -> list[bytes]:
        """Requests as JSON. Another seed: other prompts, and another shared prefix."""
        draw = random.Random(seed)
        prefix = self._ids(draw, self.shared_prefix)
        return [self._body(model, prefix, draw) for _ in range(self.requests)]

    def _body(self, model: str, prefix: list[int], draw: random.Random) -> bytes:
        request = {
            "model": model,
            "prompt": prefix + self._ids(draw, self.inputs.draw(draw)),
            "max_tokens": self.outputs.draw(draw),
            "temperature": self.temperature,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return json.dumps(request).encode()

    def _ids(self, draw: random.Random, count: int) -> list[int]:
        return [draw.randrange(FIRST_ID, self.vocab) for _ in range(count)]


def arrivals(count: int, rate: float, seed: str, burstiness: float = 1.0) -> list[float]:
    """Seconds from the start, or for an infinite rate all at once. Burstiness 1 is a Poisson
    stream; below it requests come in crowds, above it evenly."""
    draw, at, moments = random.Random(seed), 0.0, []
    for _ in range(count):
        moments.append(at)
        if math.isinf(rate):
            continue
        steady = burstiness == 1.0
        at += draw.expovariate(rate) if steady else _gap(draw, rate, burstiness)
    return moments


def _gap(draw: random.Random, rate: float, burstiness: float) -> float:
    """1 / rate on average, of a gamma distribution."""
    return draw.gammavariate(burstiness, 1 / (rate * burstiness))
