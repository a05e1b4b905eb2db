"""Metrics: what Prometheus is told of the engine, under vLLM's names.

Plain numbers and arrays, turned into metric families when somebody asks: counting costs the hot
path an addition. All times are measured here, so that any frontend can answer /metrics.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from octavo.services.scheduler.histogram import Histogram, one_two_five
from octavo.services.scheduler.http_page import HttpPage
from octavo.services.scheduler.limits import Limits
from octavo.services.scheduler.own_metrics import OwnMetrics
from octavo.services.scheduler.request import Request
from octavo.shared.messages import EngineStats

TTFT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20)
TTFT_BUCKETS = (*TTFT, 40, 80, 160, 640, 2560)
ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20)
ITL_BUCKETS = (*ITL, 40, 80)
LATENCY = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960)
LATENCY_BUCKETS = (*LATENCY, 1920, 7680)
ITERATION_BUCKETS = tuple(1 << power for power in (0, *range(3, 15)))

HISTOGRAMS: dict[str, tuple[str, tuple[float, ...] | None]] = {
    "request_prompt_tokens": ("Prompt tokens per request.", None),
    "request_generation_tokens": ("Output tokens per request.", None),
    "request_max_num_generation_tokens": ("Greatest output of the request's sequences.", None),
    "request_params_max_tokens": ("max_tokens of requests that set it.", None),
    "request_prefill_kv_computed_tokens": ("Prompt tokens computed, not reused.", None),
    "request_params_n": ("n of requests.", (1, 2, 5, 10, 20)),
    "request_num_preemptions": ("Preemptions per request.", (1, 2, 3, 4, 5, 10, 20)),
    "iteration_tokens_total": ("Tokens per engine step.", ITERATION_BUCKETS),
    "time_to_first_token_seconds": ("Arrival to first token.", TTFT_BUCKETS),
    "inter_token_latency_seconds": ("Token to next token.", ITL_BUCKETS),
    "request_time_per_output_token_seconds": ("Mean of a request's ITL.", ITL_BUCKETS),
    "e2e_request_latency_seconds": ("Arrival to last token.", LATENCY_BUCKETS),
    "request_queue_time_seconds": ("Arrival to first schedule.", LATENCY_BUCKETS),
    "request_inference_time_seconds": ("First schedule to last token.", LATENCY_BUCKETS),
    "request_prefill_time_seconds": ("First schedule to first token.", LATENCY_BUCKETS),
    "request_decode_time_seconds": ("First token to last token.", LATENCY_BUCKETS),
}
"""name -> (help, buckets; None: 1-2-5 series up to the context length)."""

COUNTERS: dict[str, str] = {
    "prompt_tokens": "Prompt tokens of requests that began to answer.",
    "generation_tokens": "Tokens generated.",
    "prompt_tokens_cached": "Prompt tokens reused from the prefix cache.",
    "prefix_cache_queries": "Tokens looked up in the prefix cache.",
    "prefix_cache_hits": "Tokens found in the prefix cache.",
    "num_preemptions": "Requests preempted.",
    "external_prefix_cache_queries": "Tokens looked up in a cache of other servers: none.",
    "external_prefix_cache_hits": "Tokens found there.",
    "mm_cache_queries": "Images looked up: none.",
    "mm_cache_hits": "Images found.",
    "corrupted_requests": "Requests whose logits were not numbers.",
}
FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")
IDLE = EngineStats(step=0, running=0, waiting=0, blocks_used=0, blocks_total=0)
REJECTIONS = ("max_num_queued_reqs", "max_num_queued_tokens", "quota")


class Metrics(Collector):
    """Counts, and their text."""

    def __init__(self, model_name: str, limits: Limits, epoch: int) -> None:
        self._labels = {"model_name": model_name, "engine": "0"}
        self._limits = limits
        series = one_two_five(limits.max_model_len)
        self._histograms = {
            name: Histogram(series if buckets is None else buckets)
            for name, (_, buckets) in HISTOGRAMS.items()
        }
        self._counts: collections.Counter[str] = collections.Counter()
        self._finished: collections.Counter[str] = collections.Counter()
        self._rejected: collections.Counter[str] = collections.Counter()
        self._stats = IDLE
        self._cached_blocks = 0
        self.own = OwnMetrics(self._labels)
        self.http = HttpPage(epoch)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self, stats: EngineStats, cached_blocks: int = 0) -> bytes:
        """Prometheus text format, gauges from `stats`; so many blocks, used or not, may be found by
        later prompts."""
        self._stats, self._cached_blocks = stats, cached_blocks
        return generate_latest(self._registry)

    def totals(self) -> dict[str, float]:
        """Numbers that only grow; their differences make rates and means."""
        names = ("generation_tokens", "prompt_tokens", "num_preemptions")
        found: dict[str, float] = {name: self._counts[name] for name in names}
        for short, name in (("ttft", "time_to_first_token"), ("itl", "inter_token_latency")):
            histogram = self._histograms[f"{name}_seconds"]
            found |= {f"{short}_count": histogram.count, f"{short}_sum": histogram.sum}
        return found

    def on_step(self, num_tokens: int) -> None:
        self._histograms["iteration_tokens_total"].observe(num_tokens)

    def on_lookup(self, num_tokens: int, num_found: int) -> None:
        self._counts["prefix_cache_queries"] += num_tokens
        self._counts["prefix_cache_hits"] += num_found

    def on_preemption(self) -> None:
        self._counts["num_preemptions"] += 1

    def on_rejection(self, bound: str) -> None:
        self._rejected[bound] += 1

    def on_tokens(self, num_tokens: int, intervals: Any) -> None:
        """A step's outputs; `intervals` float64[m]: seconds since the token before."""
        self._counts["generation_tokens"] += num_tokens
        self._histograms["inter_token_latency_seconds"].observe_many(intervals)

    def on_first_token(self, request: Request) -> None:
        cached = request.cached_tokens or 0
        self._counts["prompt_tokens"] += request.prompt_len
        self._counts["prompt_tokens_cached"] += cached
        observe = self._observe
        observe("time_to_first_token_seconds", request.first_token_time - request.arrival_time)
        observe("request_prefill_kv_computed_tokens", request.prompt_len - cached)

    def on_error(self, code: str) -> None:
        """A request is refused, or ends with this error."""
        self.own.add("request_errors", code)
        self._counts["corrupted_requests"] += code == "numerical_error"

    def on_finish(self, request: Request, reason: str, tenant: str) -> None:
        """Every request that was accepted ends here, once, with its slot given back."""
        self._finished[reason] += 1
        self._note_tenant(request, self.own.tenant(tenant))
        observe, params, last = self._observe, request.sampling, request.token_time
        observe("request_prompt_tokens", request.prompt_len)
        observe("request_generation_tokens", request.num_outputs)
        observe("request_max_num_generation_tokens", request.num_outputs)
        if request.num_choices:
            observe("request_params_n", request.num_choices)
        observe("request_num_preemptions", request.num_preemptions)
        if params.max_tokens is not None:
            observe("request_params_max_tokens", params.max_tokens)
        if not request.answered:
            return
        decode = last - request.first_token_time
        observe("e2e_request_latency_seconds", last - request.arrival_time)
        observe("request_queue_time_seconds", request.admitted_time - request.arrival_time)
        observe("request_inference_time_seconds", last - request.admitted_time)
        prefill = request.first_token_time - request.admitted_time
        observe("request_prefill_time_seconds", prefill)
        observe("request_decode_time_seconds", decode)
        if request.num_outputs > 1:
            interval = decode / (request.num_outputs - 1)
            observe("request_time_per_output_token_seconds", interval)

    def _note_tenant(self, request: Request, name: str) -> None:
        self.own.add("tenant_requests", name)
        self.own.add("tenant_tokens", name, request.num_outputs)
        if request.answered:
            waited = request.admitted_time - request.arrival_time
            self.own.add("tenant_queue_seconds", name, waited)

    def collect(self) -> Iterator[Metric]:
        yield from self._gauges()
        yield from self._counters()
        yield from self.own.families(self._blocks())
        yield from self.http.families()
        for name, (help_text, _) in HISTOGRAMS.items():
            yield self._histograms[name].family(f"vllm:{name}", self._labels, help_text)

    def _blocks(self) -> dict[str, float]:
        stats = self._stats
        free = stats.blocks_total - stats.blocks_used
        return {"used": stats.blocks_used, "free": free, "findable": self._cached_blocks}

    def _gauges(self) -> Iterator[Metric]:
        stats = self._stats
        usage = stats.blocks_used / max(stats.blocks_total, 1)
        yield self._gauge("num_requests_running", "Requests that hold a slot.", stats.running)
        yield self._gauge("num_requests_waiting", "Requests that wait for one.", stats.waiting)
        reasons: dict[str, float] = {"capacity": stats.waiting, "deferred": 0}
        yield self._gauge_by("num_requests_waiting_by_reason", "Why they wait.", "reason", reasons)
        yield self._gauge("kv_cache_usage_perc", "Share of KV blocks in use, 0 to 1.", usage)
        sleep: dict[str, float] = {"awake": 1, "weights_offloaded": 0, "discard_all": 0}
        yield self._gauge_by("engine_sleep_state", "Sleep state.", "sleep_state", sleep)
        yield self._cache_config()

    def _counters(self) -> Iterator[Metric]:
        for name, help_text in COUNTERS.items():
            yield self._counter(name, help_text, "", {"": self._counts[name]})
        cached = self._counts["prompt_tokens_cached"]
        sources = {
            "local_compute": self._counts["prompt_tokens"] - cached,
            "local_cache_hit": cached,
            "external_kv_transfer": 0,
        }
        yield self._counter("prompt_tokens_by_source", "Prompt tokens.", "source", sources)
        where = {"device": cached, "host": 0, "p2p": 0, "disk": 0, "external_unspecified": 0}
        text = "Prompt tokens reused."
        yield self._counter("prompt_tokens_cached_by_source", text, "source", where)
        finished = {reason: self._finished[reason] for reason in FINISH_REASONS}
        yield self._counter("request_success", "Requests ended.", "finished_reason", finished)
        rejected = CounterMetricFamily(
            "vllm:admission_rejections", "Requests refused.", labels=["model_name", "reason"]
        )
        for bound in REJECTIONS:
            rejected.add_metric([self._labels["model_name"], bound], self._rejected[bound])
        yield rejected

    def _observe(self, name: str, value: float) -> None:
        self._histograms[name].observe(value)

    def _gauge(self, name: str, help_text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"vllm:{name}", help_text, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family

    def _gauge_by(self, name: str, text: str, label: str, values: dict[str, float]) -> Metric:
        family = GaugeMetricFamily(f"vllm:{name}", text, labels=[*self._labels, label])
        for value, number in values.items():
            family.add_metric([*self._labels.values(), value], number)
        return family

    def _counter(self, name: str, text: str, label: str, values: dict[str, int]) -> Metric:
        labels = [*self._labels, label] if label else list(self._labels)
        family = CounterMetricFamily(f"vllm:{name}", text, labels=labels)
        for value, number in values.items():
            family.add_metric([*self._labels.values(), value][: len(labels)], number)
        return family

    def _cache_config(self) -> Metric:
        facts = {
            "block_size": str(self._limits.block_size),
            "num_gpu_blocks": str(self._limits.num_blocks),
            "enable_prefix_caching": str(self._limits.prefix_caching),
        }
        labels = {**self._labels, **facts}
        name, text = "vllm:cache_config_info", "The KV cache's configuration."
        family = GaugeMetricFamily(name, text, labels=list(labels))
        family.add_metric(list(labels.values()), 1)
        return family
