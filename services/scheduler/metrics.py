"""Metrics: what Prometheus is told of the engine, under vLLM's names.

Plain numbers and arrays, turned into metric families when somebody asks: counting costs the hot
path an addition. All times are measured here, so that any frontend can answer /metrics.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from octavo.services.scheduler.cache_facts import limit_facts
from octavo.services.scheduler.families import counter, counter_by, gauge, gauge_by
from octavo.services.scheduler.histogram import Histogram, one_two_five
from octavo.services.scheduler.http_page import HttpPage
from octavo.services.scheduler.limits import Limits
from octavo.services.scheduler.own_metrics import OwnMetrics
from octavo.services.scheduler.request import Request
from octavo.services.scheduler.siblings import Siblings
from octavo.services.scheduler.slots import Longs
from octavo.services.scheduler.tenant_counts import TenantCounts
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
NO_ADAPTERS = {"max_lora": "0", "waiting_lora_adapters": "", "running_lora_adapters": ""}
FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")
IDLE = EngineStats(step=0, running=0, waiting=0, blocks_used=0, blocks_total=0)
REJECTIONS = ("max_num_queued_reqs", "max_num_queued_tokens")


class Metrics(Collector):
    """Counts, and their text."""

    def __init__(
        self, model_name: str, limits: Limits, epoch: int, cache_facts: Mapping[str, str]
    ) -> None:
        self._labels = {"model_name": model_name, "engine": "0"}
        self._cache_facts = limit_facts(limits) | dict(cache_facts)
        self._started = time.time()
        series = one_two_five(limits.max_model_len)
        self._histograms = {
            name: Histogram(series if buckets is None else buckets)
            for name, (_, buckets) in HISTOGRAMS.items()
        }
        self._counts: collections.Counter[str] = collections.Counter()
        self._finished: collections.Counter[str] = collections.Counter()
        self._rejected: collections.Counter[str] = collections.Counter()
        self._stats = IDLE
        self._cached_blocks = self._deferred = 0
        self._siblings = Siblings()
        self.own = OwnMetrics(self._labels)
        self.tenants = TenantCounts()
        self.http = HttpPage(epoch)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self, stats: EngineStats, cached_blocks: int, deferred: int) -> bytes:
        """Prometheus text format, gauges from `stats`; so many blocks, used or not, may be found by
        later prompts, and so many of those that wait do so for something else than room."""
        self._stats, self._cached_blocks, self._deferred = stats, cached_blocks, deferred
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

    def on_tokens(self, tenants: Longs, intervals: Any) -> None:
        """A step's outputs: `tenants` int64[n], whose each is; `intervals` float64[m], seconds
        since the token before."""
        self._counts["generation_tokens"] += len(tenants)
        self.tenants.on_tokens(tenants)
        self._histograms["inter_token_latency_seconds"].observe_many(intervals)

    def on_arrival(self, request: Request, tenant: str) -> None:
        """It has been accepted."""
        key = None if request.quota is None else request.quota.name
        self.tenants.join(request.tenant, tenant, key)
        self._siblings.join(request.parent)

    def on_admission(self, request: Request) -> None:
        """It has a slot, for the first time."""
        self.tenants.on_admission(request.tenant, request.admitted_time - request.arrival_time)

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

    def on_turning_away(self, request: Request) -> None:
        """It had been accepted, and is refused after all."""
        self.own.add("displaced_requests")
        self._siblings.leave(request.parent, 0)

    def on_finish(self, request: Request, reason: str) -> None:
        """Every request that was accepted, and not turned away later, ends here, once, with its
        slot given back."""
        self._finished[reason] += 1
        self.tenants.on_end(request.tenant)
        observe, params, last = self._observe, request.sampling, request.token_time
        observe("request_prompt_tokens", request.prompt_len)
        observe("request_generation_tokens", request.num_outputs)
        if (most := self._siblings.leave(request.parent, request.num_outputs)) is not None:
            observe("request_max_num_generation_tokens", most)
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

    def collect(self) -> Iterator[Metric]:
        yield from self._gauges()
        yield from self._counters()
        yield from self.own.families(self._blocks())
        yield from self.tenants.families(self._labels)
        yield from self.http.families(self._labels["model_name"])
        for name, (help_text, _) in HISTOGRAMS.items():
            yield self._histograms[name].family(f"vllm:{name}", self._labels, help_text)

    def _blocks(self) -> dict[str, float]:
        stats = self._stats
        free = stats.blocks_total - stats.blocks_used
        return {"used": stats.blocks_used, "free": free, "findable": self._cached_blocks}

    def _gauges(self) -> Iterator[Metric]:
        stats, labels = self._stats, self._labels
        usage = stats.blocks_used / max(stats.blocks_total, 1)
        text = "Requests that hold a slot."
        yield gauge("vllm:num_requests_running", text, labels, stats.running)
        yield gauge("vllm:num_requests_waiting", "Requests that wait.", labels, stats.waiting)
        capacity = stats.waiting - self._deferred
        reasons = {"capacity": capacity, "deferred": self._deferred}
        name, text = "vllm:num_requests_waiting_by_reason", "For room, or for something else."
        yield gauge_by(name, text, labels, "reason", reasons)
        text = "Share of KV blocks in use, 0 to 1."
        yield gauge("vllm:kv_cache_usage_perc", text, labels, usage)
        sleep = {"awake": 1, "weights_offloaded": 0, "discard_all": 0}
        yield gauge_by("vllm:engine_sleep_state", "Sleep state.", labels, "sleep_state", sleep)
        facts, text = labels | self._cache_facts, "The KV cache's configuration."
        yield gauge("vllm:cache_config_info", text, facts, 1)
        text = "Adapters; the value is the time."
        yield gauge("vllm:lora_requests_info", text, NO_ADAPTERS, time.time())
        text = "When the process that counts began, in Unix time."
        yield gauge("process_start_time_seconds", text, {}, self._started)

    def _counters(self) -> Iterator[Metric]:
        for name, text in COUNTERS.items():
            yield counter(f"vllm:{name}", text, self._labels, self._counts[name])
        cached = self._counts["prompt_tokens_cached"]
        sources = {
            "local_compute": self._counts["prompt_tokens"] - cached,
            "local_cache_hit": cached,
            "external_kv_transfer": 0,
        }
        yield self._counter_by("prompt_tokens_by_source", "Prompt tokens.", "source", sources)
        where = {"device": cached, "host": 0, "p2p": 0, "disk": 0, "external_unspecified": 0}
        text = "Prompt tokens reused."
        yield self._counter_by("prompt_tokens_cached_by_source", text, "source", where)
        finished = {reason: self._finished[reason] for reason in FINISH_REASONS}
        yield self._counter_by("request_success", "Requests ended.", "finished_reason", finished)
        rejected = {bound: self._rejected[bound] for bound in REJECTIONS}
        name, labels = "vllm:admission_rejections", {"model_name": self._labels["model_name"]}
        yield counter_by(name, "Requests refused.", labels, "reason", rejected)

    def _counter_by(self, name: str, text: str, by: str, values: dict[str, int]) -> Metric:
        return counter_by(f"vllm:{name}", text, self._labels, by, values)

    def _observe(self, name: str, value: float) -> None:
        self._histograms[name].observe(value)
