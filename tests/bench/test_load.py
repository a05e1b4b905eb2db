"""The load generator's parts: draws, the reader of streams, figures."""

from __future__ import annotations

import asyncio
import json
import math
import random
import statistics
import sys
from pathlib import Path

import pytest

from bench.compare import GOALS
from bench.load.report import plot, table
from bench.serving import records
from octavo.services.client.load.figures import Slo, percentile, summary
from octavo.services.client.load.streams import EventReader, Target, Timing, stream_all
from octavo.services.client.load.workload import (
    Lognormal,
    Uniform,
    Workload,
    arrivals,
    read_lengths,
)

CHUNK = b'data: {"id":"c","choices":[{"index":0,"text":"x","finish_reason":null}]}\n\n'
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":4,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


def test_read_lengths() -> None:
    assert read_lengths("512") == Uniform(512, 512)
    assert read_lengths("100:1024") == Uniform(100, 1024)
    assert read_lengths("lognormal:202") == Lognormal(202, 1.1)
    assert read_lengths("lognormal:179:0.5") == Lognormal(179, 0.5)


def test_lognormal_is_clipped_and_skewed() -> None:
    draw = random.Random(0)
    drawn = [Lognormal(202).draw(draw) for _ in range(4000)]
    assert (min(drawn), max(drawn)) == (4, 1024)
    assert 150 < statistics.fmean(drawn) < 202
    assert 100 < statistics.median(drawn) < 122  # exp(ln 202 - 1.1^2 / 2) is 110


def test_bodies() -> None:
    workload = Workload(20, Uniform(3, 9), Uniform(2, 4), 400, 0.6, shared_prefix=5)
    requests = [json.loads(body) for body in workload.bodies("m", "0")]
    prefixes = {tuple(each["prompt"][:5]) for each in requests}
    assert len(prefixes) == 1
    assert {len(each["prompt"]) for each in requests} <= set(range(8, 15))
    assert len({tuple(each["prompt"]) for each in requests}) == 20
    assert {each["max_tokens"] for each in requests} == {2, 3, 4}
    assert all(300 <= i < 400 for each in requests for i in each["prompt"])
    assert requests[0]["temperature"] == 0.6
    assert workload.bodies("m", "0") == workload.bodies("m", "0") != workload.bodies("m", "1")


def test_arrivals() -> None:
    assert arrivals(3, math.inf, "0") == [0, 0, 0]
    moments = arrivals(2000, 16, "0")
    assert moments == sorted(moments) == arrivals(2000, 16, "0")
    assert moments[0] == 0 and pytest.approx(2000 / moments[-1], rel=0.1) == 16


def read(*pieces: bytes, error: Exception | None = None) -> Timing:
    async def feed() -> Timing:
        timing = Timing(sent=0.0)
        reader = EventReader(timing)
        for piece in pieces:
            reader.data_received(piece)
        reader.connection_lost(error)
        await reader.over
        return timing

    return asyncio.run(feed())


def test_a_stream() -> None:
    timing = read(HEAD, CHUNK, CHUNK + CHUNK, USAGE + DONE)
    assert (len(timing.arrivals), timing.output_tokens, timing.error) == (3, 3, None)


def test_a_stream_in_any_pieces() -> None:
    whole = HEAD + CHUNK + b"17\r\n" + CHUNK + b": keep-alive\n\n" + USAGE + DONE
    timing = read(*(whole[i : i + 7] for i in range(0, len(whole), 7)))
    assert (len(timing.arrivals), timing.output_tokens, timing.error) == (2, 3, None)


def test_usage_beside_a_token() -> None:
    last = USAGE.replace(b"[]", b'[{"text":"x"}]')
    assert len(read(HEAD, CHUNK, last, DONE).arrivals) == 2


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        ([HEAD, CHUNK], "without [DONE]"),
        ([HEAD, CHUNK, b'data: {"error":{"message":"no room"}}\n\n'], "no room"),
        ([b"HTTP/1.1 503 Busy\r\n\r\n", b'{"error":"overloaded"}'], "overloaded"),
        ([], "closed without a reply"),
    ],
)
def test_errors(pieces: list[bytes], says: str) -> None:
    assert says in (read(*pieces).error or "")


def test_a_lost_connection() -> None:
    assert "reset" in (read(HEAD, error=ConnectionResetError("reset")).error or "")


def test_requests() -> None:
    request = Target("http://host:81/base/", "secret").request(b"{}")
    assert request.startswith(b"POST /base/v1/completions HTTP/1.1\r\nHost: host\r\n")
    assert b"Content-Length: 2\r\n" in request and b"Bearer secret\r\n" in request
    assert request.endswith(b"\r\n\r\n{}")
    assert Target("http://host:81/base/").address == ("host", 81)


def test_against_a_server() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"POST /v1/completions ")
        assert await reader.readexactly(2) == b"{}"
        writer.write(HEAD + CHUNK + CHUNK + CHUNK + USAGE + DONE)
        await writer.drain()
        writer.close()

    async def run() -> list[Timing]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        target = Target(f"http://127.0.0.1:{port}")
        timings, _ = await stream_all(target, [b"{}"] * 5, [0.0] * 5, 2)
        server.close()
        return timings

    timings = asyncio.run(run())
    assert [(len(each.arrivals), each.output_tokens, each.error) for each in timings] == [
        (3, 3, None)
    ] * 5


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, 0), ([7], 0.99, 7), ([4, 1, 3, 2], 0.5, 2.5), (range(101), 0.99, 99)],
)
def test_percentile(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


def timings() -> list[Timing]:
    return [
        Timing(0.0, [0.1, 0.2, 0.3], 3),
        Timing(1.0, [1.3, 1.4, 1.7], 3),
        Timing(1.0, [1.2], 1),
        Timing(1.0, [], 0, "HTTP/1.1 503"),
    ]


def test_summary() -> None:
    report = summary(timings(), 2.0, Slo(ttft_ms=250, tpot_ms=150))
    assert (report["completed"], report["failed"], report["output_tokens"]) == (3, 1, 7)
    assert (report["output_tokens_per_s"], report["requests_per_s"]) == (3.5, 1.5)
    assert report["goodput_per_s"] == 1.0
    assert report["ttft_ms"] == {"mean": 200, "p50": 200, "p90": 280, "p99": 298}
    assert (report["tpot_ms"]["mean"], report["e2e_ms"]["p50"]) == (150, 300)
    assert (report["itl_ms"]["p50"], report["errors"]) == (100, ["HTTP/1.1 503"])


def test_no_slo_counts_all() -> None:
    assert summary(timings(), 1.0, Slo())["goodput_per_s"] == 3


def test_table() -> None:
    report = {"rate": "inf", **summary(timings(), 2.0, Slo())}
    head, line = table([report]).splitlines()
    assert head.split()[:3] == ["rate", "failed", "tok/s"]
    assert line.split()[:5] == ["inf", "1", "4", "1.50", "1.50"]
    assert "200.0 / 280.0 / 298.0" in line


def test_plot_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match="pip install matplotlib"):
        plot([], tmp_path / "x.png")


def test_records_are_a_run_a_repetition() -> None:
    reports = [
        {"rate": rate, **summary(timings(), seconds, Slo())}
        for seconds in (1.0, 2.0)
        for rate in ("16", "inf")
    ]
    found = {each.name: each for each in records(reports, "vllm")}
    assert found["serving_inf_throughput"].runs == [7.0, 3.5]
    assert (found["serving_16_ttft_p50"].row, found["serving_16_ttft_p50"].engine) == (7, "vllm")
    wanted = {goal.name for goal in GOALS if goal.row in (6, 7)}
    assert wanted <= found.keys()
