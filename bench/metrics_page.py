"""How long /metrics takes to answer while many streams run, on a running server.

    python bench/metrics_page.py --url http://127.0.0.1:8000 [--streams 1000] [--scrapes 40]
        [--input 64] [--output 1000] [--metrics-url URL] [--json FILE]

The streams come from a process of its own, which begins each again when it ends; this one only
scrapes, over one connection, as Prometheus does. Scraping begins when the page says that all
streams run. The goal is 20 ms at 1,000 streams.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import itertools
import json
import random
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.results import add_json_option, record, save
from octavo.services.client.load.streams import Target, Timing, raise_file_limit, stream

PAUSE = 0.25
"""Seconds between scrapes."""
PATIENCE = 120.0
"""Seconds in which all streams have to run."""
RUNNING = re.compile(rb"^vllm:num_requests_running\{.*\} (\S+)$", re.M)


def body(model: str, args: argparse.Namespace, number: int) -> bytes:
    draw = random.Random(number)
    prompt = [draw.randrange(300, 4000) for _ in range(args.input)]
    fields = {"model": model, "prompt": prompt, "max_tokens": args.output, "ignore_eos": True}
    fields |= {"stream": True, "stream_options": {"include_usage": True}, "user": f"{number % 100}"}
    return json.dumps(fields).encode()


async def burden(target: Target, model: str, args: argparse.Namespace) -> None:
    """Until this process is killed."""
    numbers = itertools.count()

    async def follow() -> None:
        while True:
            await stream(target, body(model, args, next(numbers)), timing := Timing())
            if timing.error:
                await asyncio.sleep(1)

    await asyncio.gather(*(follow() for _ in range(args.streams)))


class Scraper:
    """One connection."""

    def __init__(self, url: str, api_key: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def scrape(self) -> tuple[float, bytes]:
        """(milliseconds, the page)"""
        began = time.perf_counter()
        self._connection.request("GET", "/metrics", headers=self._headers)
        answer = self._connection.getresponse()
        page = answer.read()
        milliseconds = (time.perf_counter() - began) * 1e3
        if answer.status != 200:
            raise SystemExit(f"/metrics: {answer.status} {page[:200].decode(errors='replace')}")
        return milliseconds, page


def running(page: bytes) -> int:
    found = RUNNING.search(page)
    return int(float(found[1])) if found else 0


def wait_for_all(scraper: Scraper, streams: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while (now := running(scraper.scrape()[1])) < streams:
        if time.monotonic() > deadline:
            raise SystemExit(f"only {now} of {streams} streams run (--max-num-seqs, KV cache)")
        time.sleep(0.5)


def measure(args: argparse.Namespace) -> None:
    scraper = Scraper(args.metrics_url or args.url, args.api_key)
    idle = [scraper.scrape()[0] for _ in range(args.scrapes)]
    command = [sys.executable, __file__, *sys.argv[1:], "--burden"]
    other = subprocess.Popen(command)
    try:
        wait_for_all(scraper, args.streams)
        loaded, counts, sizes = [], [], []
        for _ in range(args.scrapes):
            time.sleep(PAUSE)
            milliseconds, page = scraper.scrape()
            loaded.append(milliseconds)
            counts.append(running(page))
            sizes.append(len(page))
    finally:
        other.kill()
        other.wait()
    for name, values in (("idle", idle), ("loaded", loaded)):
        worst = sorted(values)[int(0.95 * len(values))]
        middle = statistics.median(values)
        print(f"{name:7} median {middle:.2f} ms  p95 {worst:.2f}  max {max(values):.2f}")
    print(f"streams {min(counts)} to {max(counts)}, page {sizes[-1]} bytes")
    records = [
        record("metrics_page_idle", None, "ms", idle),
        record("metrics_page_loaded", None, "ms", loaded),
    ]
    save(args.json, records, {"running": counts, "bytes": sizes})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8000")
    add("--metrics-url", default="", help="where /metrics is, if at a port of its own")
    add("--api-key", default="")
    add("--streams", type=int, default=1000)
    add("--scrapes", type=int, default=40)
    add("--input", type=int, default=64, help="tokens of a prompt")
    add("--output", type=int, default=1000, help="tokens of an answer")
    add("--burden", action="store_true", help=argparse.SUPPRESS)
    add_json_option(parser)
    return parser.parse_args()


def main() -> None:
    args = parse()
    if not args.burden:
        measure(args)
        return
    raise_file_limit(args.streams)
    target = Target(args.url, args.api_key)
    asyncio.run(burden(target, target.model(), args))


if __name__ == "__main__":
    main()
