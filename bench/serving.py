"""Load generator for any OpenAI-compatible server: throughput, TTFT, TPOT and ITL percentiles.

    python bench/serving.py --url http://127.0.0.1:8000 --requests 512 --input 512 --output 256 \\
        --concurrency 256 [--rate 16] [--json out.json]

Prompts are random token ids (seeded), outputs are forced to their length with ignore_eos. Without
--rate all requests are queued at once under --concurrency; with it they arrive as a Poisson stream.
Plain sockets and asyncio only, so that the client costs little beside the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Timing:
    """One request: when it was sent, when each chunk with text came, and its usage."""

    sent: float = 0.0
    arrivals: list[float] = field(default_factory=list)
    output_tokens: int = 0
    error: str | None = None

    @property
    def ttft(self) -> float:
        return self.arrivals[0] - self.sent

    @property
    def tpot(self) -> float:
        return (self.arrivals[-1] - self.arrivals[0]) / max(self.output_tokens - 1, 1)

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in zip(self.arrivals, self.arrivals[1:], strict=False)]


@dataclass(frozen=True)
class Workload:
    """Uniform lengths between the bounds, random ids below `vocab`."""

    requests: int
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    vocab: int
    seed: int

    def bodies(self, model: str) -> list[bytes]:
        draw = random.Random(self.seed)
        return [self._body(model, draw) for _ in range(self.requests)]

    def _body(self, model: str, draw: random.Random) -> bytes:
        length = draw.randint(*self.inputs)
        request = {
            "model": model,
            "prompt": [draw.randrange(300, self.vocab) for _ in range(length)],
            "max_tokens": draw.randint(*self.outputs),
            "temperature": 0.0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return json.dumps(request).encode()


async def stream(host: str, port: int, body: bytes) -> Timing:
    """One streamed completion over a connection of its own."""
    timing = Timing(sent=time.perf_counter())
    try:
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        status = await reader.readline()
        if b" 200 " not in status:
            timing.error = (status + await reader.read(2000)).decode(errors="replace")
        else:
            await read_events(reader, timing)
        writer.close()
    except (OSError, ValueError) as error:
        timing.error = repr(error)
    return timing


async def read_events(reader: asyncio.StreamReader, timing: Timing) -> None:
    done = False
    async for line in reader:
        if not line.startswith(b"data: "):
            continue
        if line.startswith(b"data: [DONE]"):
            done = True
        elif b'"error"' in line[:12]:
            timing.error = line.decode(errors="replace")
        elif b'"choices":[]' in line:
            timing.output_tokens = json.loads(line[6:])["usage"]["completion_tokens"]
        else:
            timing.arrivals.append(time.perf_counter())
    if not done and timing.error is None:
        timing.error = "stream ended without [DONE]"


async def run_all(
    url: str, bodies: list[bytes], concurrency: int, rate: float | None, seed: int
) -> tuple[list[Timing], float]:
    parts = urlsplit(url)
    gate = asyncio.Semaphore(concurrency)

    async def one(body: bytes, delay: float) -> Timing:
        await asyncio.sleep(delay)
        async with gate:
            return await stream(parts.hostname or "127.0.0.1", parts.port or 80, body)

    draw, at, delays = random.Random(seed), 0.0, []
    for _ in bodies:
        delays.append(at)
        at += draw.expovariate(rate) if rate else 0.0
    started = time.perf_counter()
    pairs = zip(bodies, delays, strict=True)
    timings = await asyncio.gather(*(one(body, delay) for body, delay in pairs))
    return timings, time.perf_counter() - started


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def summary(timings: list[Timing], seconds: float) -> dict[str, Any]:
    good = [timing for timing in timings if timing.error is None and timing.arrivals]
    columns = {
        "ttft_ms": [timing.ttft * 1e3 for timing in good],
        "tpot_ms": [timing.tpot * 1e3 for timing in good],
        "itl_ms": [gap * 1e3 for timing in good for gap in timing.gaps],
    }
    output = sum(timing.output_tokens for timing in good)
    report: dict[str, Any] = {
        "completed": len(good),
        "failed": len(timings) - len(good),
        "seconds": round(seconds, 3),
        "output_tokens": output,
        "output_tokens_per_s": round(output / seconds, 1),
        "requests_per_s": round(len(good) / seconds, 3),
    }
    for name, values in columns.items():
        report[name] = {
            "mean": round(statistics.fmean(values), 3) if values else 0.0,
            "p50": round(percentile(values, 0.5), 3),
            "p99": round(percentile(values, 0.99), 3),
        }
    report["errors"] = sorted({timing.error for timing in timings if timing.error})[:5]
    return report


def served_model(url: str) -> str:
    with urllib.request.urlopen(f"{url}/v1/models") as answer:
        return str(json.load(answer)["data"][0]["id"])


def bounds(text: str) -> tuple[int, int]:
    """Read `512` or `100:1024`."""
    low, _, high = text.partition(":")
    return int(low), int(high or low)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--input", type=bounds, default=(512, 512), metavar="N or LOW:HIGH")
    parser.add_argument("--output", type=bounds, default=(256, 256), metavar="N or LOW:HIGH")
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--rate", type=float, help="requests per second, Poisson arrivals")
    parser.add_argument("--vocab", type=int, default=4000, help="prompt ids are below this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    workload = Workload(args.requests, args.input, args.output, args.vocab, args.seed)
    bodies = workload.bodies(served_model(args.url))
    result = asyncio.run(run_all(args.url, bodies, args.concurrency, args.rate, args.seed))
    report = summary(*result)
    print(json.dumps(report, indent=1))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
