"""/metrics has vLLM's names, types, labels, values of labels and buckets, and no series more."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from sched_harness import Harness, limits_of, submit_of

from octavo.services.frontend.http_counts import HttpCounter
from octavo.shared.messages import HttpCounts

MAX_MODEL_LEN = 64
TOKENS = [1, 2, 5, 10, 20, 50]
ITERATION = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384]
TTFT = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5]
TTFT += [10, 20, 40, 80, 160, 640, 2560]
ITL = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40]
ITL += [80]
LATENCY = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960]
LATENCY += [1920, 7680]

USUAL = {"model_name", "engine"}
GAUGES: dict[str, dict[str, str]] = {
    "num_requests_running": {},
    "num_requests_waiting": {},
    "num_requests_waiting_by_reason": {"reason": "capacity deferred"},
    "kv_cache_usage_perc": {},
    "engine_sleep_state": {"sleep_state": "awake weights_offloaded discard_all"},
}
SOURCES = "local_compute local_cache_hit external_kv_transfer"
COUNTERS: dict[str, dict[str, str]] = {
    "prefix_cache_queries": {},
    "prefix_cache_hits": {},
    "external_prefix_cache_queries": {},
    "external_prefix_cache_hits": {},
    "mm_cache_queries": {},
    "mm_cache_hits": {},
    "num_preemptions": {},
    "prompt_tokens": {},
    "generation_tokens": {},
    "prompt_tokens_cached": {},
    "prompt_tokens_by_source": {"source": SOURCES},
    "prompt_tokens_cached_by_source": {"source": "device host p2p disk external_unspecified"},
    "request_success": {"finished_reason": "stop length abort error repetition"},
    "corrupted_requests": {},
}
HISTOGRAMS: dict[str, list[float]] = {
    "request_prompt_tokens": [*TOKENS],
    "request_generation_tokens": [*TOKENS],
    "request_max_num_generation_tokens": [*TOKENS],
    "request_params_max_tokens": [*TOKENS],
    "request_prefill_kv_computed_tokens": [*TOKENS],
    "iteration_tokens_total": [*ITERATION],
    "request_params_n": [1, 2, 5, 10, 20],
    "request_num_preemptions": [1, 2, 3, 4, 5, 10, 20],
    "time_to_first_token_seconds": TTFT,
    "inter_token_latency_seconds": ITL,
    "request_time_per_output_token_seconds": ITL,
    "e2e_request_latency_seconds": LATENCY,
    "request_queue_time_seconds": LATENCY,
    "request_inference_time_seconds": LATENCY,
    "request_prefill_time_seconds": LATENCY,
    "request_decode_time_seconds": LATENCY,
}
OTHERS: dict[str, tuple[str, dict[str, str]]] = {
    "admission_rejections": (
        "counter",
        {"model_name": "tiny", "reason": "max_num_queued_reqs max_num_queued_tokens"},
    ),
    "cache_config_info": (
        "gauge",
        {
            **{"model_name": "tiny", "engine": "0", "block_size": "4", "num_gpu_blocks": "32"},
            **{"enable_prefix_caching": "True", "cache_dtype": "auto", "sliding_window": "7"},
        },
    ),
    "lora_requests_info": (
        "gauge",
        {"max_lora": "0", "waiting_lora_adapters": "", "running_lora_adapters": ""},
    ),
    "tool_call_parser_invocations": (
        "counter",
        {
            "model_name": "tiny",
            "mode": "streaming non_streaming",
            "outcome": "tool_call no_tool_call",
            "request_type": "chat_completions responses other",
        },
    ),
}
"""All labels and their values."""


@pytest.fixture(scope="module")
def text() -> str:
    harness = Harness(limits_of(), cache_facts={"cache_dtype": "auto", "sliding_window": "7"})
    harness.submit(submit_of(0, [1, 2, 3], max_tokens=3))
    harness.drain()
    counter = HttpCounter()
    counter.note("/v1/models", "GET", 200, 0.2, 0, 100)
    harness.scheduler.metrics.http.note(b"frontend-0.1", HttpCounts(counter.counts(), 0))
    return harness.scheduler.metrics_text().decode()


@pytest.fixture(scope="module")
def page(text: str) -> dict[str, Metric]:
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return {name.removeprefix("vllm:"): one for name, one in families.items()}


def series(family: Metric) -> dict[str, set[str]]:
    """The values of every label."""
    found: dict[str, set[str]] = {}
    for sample in family.samples:
        assert sample.labels.keys() == family.samples[0].labels.keys()
        for label, value in sample.labels.items():
            found.setdefault(label, set()).add(value)
    return found


def test_nothing_else_is_under_vllms_prefix(text: str) -> None:
    names = {family.name for family in text_string_to_metric_families(text)}
    ours = {*GAUGES, *COUNTERS, *HISTOGRAMS, *OTHERS}
    assert {name.removeprefix("vllm:") for name in names if name.startswith("vllm:")} == ours


@pytest.mark.parametrize(
    ("name", "kind", "labels"),
    [
        *((name, "gauge", labels) for name, labels in GAUGES.items()),
        *((name, "counter", labels) for name, labels in COUNTERS.items()),
    ],
)
def test_gauge_or_counter(
    page: dict[str, Metric], name: str, kind: str, labels: dict[str, str]
) -> None:
    family = page[name]
    assert family.type == kind
    assert {sample.name for sample in family.samples} == {
        f"vllm:{name}_total" if kind == "counter" else f"vllm:{name}"
    }
    wanted = {"model_name": {"tiny"}, "engine": {"0"}}
    assert series(family) == wanted | {label: set(text.split()) for label, text in labels.items()}


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_histogram(page: dict[str, Metric], name: str) -> None:
    family = page[name]
    assert family.type == "histogram"
    buckets = [sample for sample in family.samples if sample.name == f"vllm:{name}_bucket"]
    bounds = [float(sample.labels["le"]) for sample in buckets]
    assert bounds == [*HISTOGRAMS[name], float("inf")]
    rest = [sample for sample in family.samples if sample not in buckets]
    assert {sample.name for sample in rest} == {f"vllm:{name}_count", f"vllm:{name}_sum"}
    assert all(sample.labels.keys() - {"le"} == USUAL for sample in family.samples)


@pytest.mark.parametrize("name", OTHERS)
def test_labels_of_their_own(page: dict[str, Metric], name: str) -> None:
    kind, labels = OTHERS[name]
    found = series(page[name])
    assert page[name].type == kind
    assert found == {label: set(text.split()) or {""} for label, text in labels.items()}
    number = 1
    for values in found.values():
        number *= len(values)
    assert len(page[name].samples) == number


def test_http_as_the_instrumentator_has_it(page: dict[str, Metric]) -> None:
    labels = {
        "http_requests": {"handler", "method", "status"},
        "http_request_duration_seconds": {"handler", "method"},
        "http_request_duration_highr_seconds": set(),
        "http_request_size_bytes": {"handler"},
        "http_response_size_bytes": {"handler"},
    }
    for name, wanted in labels.items():
        for sample in page[name].samples:
            assert sample.labels.keys() - {"le"} == wanted, name
    assert page["process_start_time_seconds"].type == "gauge"


LINT_OF_NAMES = "metric names should not contain ':'"
LINT_OF_TOTAL = 'non-counter metrics should not have "_total" suffix'
ALLOWED = {
    "vllm:iteration_tokens_total": {LINT_OF_NAMES, LINT_OF_TOTAL},
}
"""By name, what vLLM's names bring with them; of all others only the colon."""


def test_the_linter_has_nothing_but_vllms_names_to_say(text: str) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool (Debian's package prometheus) is not installed")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert checked.returncode in (0, 3), checked.stderr
    for line in checked.stderr.splitlines():
        name, _, complaint = line.partition(" ")
        assert complaint in ALLOWED.get(name, {LINT_OF_NAMES}), line
        assert name.startswith(("vllm:", "octavo:")), line
