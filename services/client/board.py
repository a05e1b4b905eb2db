"""The text of `octavo status`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from octavo.services.client.poll import Seen
from octavo.services.client.samples import Page, quantile, rate
from octavo.shared.style import Style

BAR = 30
LATENCIES = {
    "TTFT": "vllm:time_to_first_token_seconds",
    "ITL": "vllm:inter_token_latency_seconds",
    "E2E": "vllm:e2e_request_latency_seconds",
}
COUNTS = {
    "done": "vllm:request_success_total",
    "failed": "octavo:request_errors_total",
    "preempted": "vllm:num_preemptions_total",
}
COLORS = {"ready": "green", "draining": "yellow", "degraded": "yellow", "no answer": "red"}


NOTHING = Page(0.0)


def board(
    url: str, seen: Seen, before: Page | None, window: float | None, style: Style
) -> Iterator[str]:
    """`before`: the page that rates are reckoned from, and latencies too where there is a `window`
    in seconds; else those are of the server's life."""
    color = COLORS.get(seen.state, "cyan")
    model = seen.page.model if seen.page else ""
    yield "  ".join(["octavo", style.paint(seen.state, color), url, model]).rstrip()
    if seen.admin and seen.admin.get("progress"):
        yield str(seen.admin["progress"])
    if seen.page is not None:
        yield ""
        yield from _load(seen.page, before or seen.page, style)
        yield ""
        since = NOTHING if window is None or before is None else before
        span = "since start" if window is None else f"last {window:.0f} s"
        yield from _latencies(seen.page, since, span, style)
    if seen.admin is not None:
        yield ""
        yield from _processes(seen.admin, style)


def _load(page: Page, before: Page, style: Style) -> Iterator[str]:
    value = page.values.get
    running, waiting = value("vllm:num_requests_running", 0), value("vllm:num_requests_waiting", 0)
    done = rate("vllm:request_success_total", before, page)
    counts = f"{running:,.0f} running", f"{waiting:,.0f} waiting"
    yield _row("requests", *counts, f"{done:.1f} done/s")
    share = value("vllm:kv_cache_usage_perc", 0.0)
    facts = page.facts
    tokens = int(facts.get("num_gpu_blocks", 0)) * int(facts.get("block_size", 0))
    yield _row("KV cache", f"{100 * share:.1f} %", _bar(share, style), f"of {tokens:,} tokens")
    out = rate("vllm:generation_tokens_total", before, page)
    into = rate("vllm:prompt_tokens_total", before, page)
    yield _row("tokens", f"{out:,.1f} out/s", f"{into:,.1f} in/s", _prefix_hits(page))
    totals = [f"{value(name, 0):,.0f} {what}" for what, name in COUNTS.items()]
    yield _row("since start", *totals)


def _prefix_hits(page: Page) -> str:
    asked = page.values.get("vllm:prefix_cache_queries_total", 0)
    hits = page.values.get("vllm:prefix_cache_hits_total", 0)
    return f"{100 * hits / asked:.0f} % from the prefix cache" if asked else ""


def _latencies(page: Page, earlier: Page, span: str, style: Style) -> Iterator[str]:
    yield style.paint(f"{span:12}{'p50':>12}{'p99':>12}", "dim")
    for title, name in LATENCIES.items():
        shown = [_seconds(quantile(name, share, earlier, page)) for share in (0.5, 0.99)]
        yield f"{title:12}{shown[0]:>12}{shown[1]:>12}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{1e3 * value:.1f} ms" if value < 1 else f"{value:.2f} s"


def _processes(admin: dict[str, Any], style: Style) -> Iterator[str]:
    yield style.paint(f"{'process':16}{'pid':>9}  {'state':12}{'up':>10}", "dim")
    for one in admin.get("processes", []):
        up = _duration(float(one.get("seconds", 0)))
        yield f"{one.get('name', ''):16}{one.get('pid', ''):>9}  {one.get('state', ''):12}{up:>10}"
    yield f"restarts {admin.get('restarts', 0)}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _bar(share: float, style: Style) -> str:
    full = round(min(max(share, 0.0), 1.0) * BAR)
    color = "red" if share > 0.95 else "green"
    return f"[{style.paint('#' * full, color)}{'.' * (BAR - full)}]"


def _row(title: str, *values: str) -> str:
    first, second, *rest = values
    return f"{title:12}{first:>14}  {second:>16}  {'  '.join(rest)}".rstrip()
