"""/metrics: a known load, and every number compared with what its clients saw."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from octavo_server import Server, serving
from prometheus_client.parser import text_string_to_metric_families

NUM = 24
ALWAYS_ON = """
num_requests_running num_requests_waiting num_requests_waiting_by_reason kv_cache_usage_perc
engine_sleep_state cache_config_info prefix_cache_queries prefix_cache_hits
external_prefix_cache_queries external_prefix_cache_hits mm_cache_queries mm_cache_hits
num_preemptions prompt_tokens generation_tokens prompt_tokens_cached prompt_tokens_by_source
prompt_tokens_cached_by_source request_success admission_rejections request_prompt_tokens
request_generation_tokens request_max_num_generation_tokens request_params_max_tokens
request_prefill_kv_computed_tokens iteration_tokens_total request_params_n
request_num_preemptions time_to_first_token_seconds inter_token_latency_seconds
request_time_per_output_token_seconds e2e_request_latency_seconds request_queue_time_seconds
request_inference_time_seconds request_prefill_time_seconds request_decode_time_seconds
"""
"""CONTRACT 1.7 but lora_requests_info, which comes with LoRA."""


class Page:
    def __init__(self, server: Server) -> None:
        began = time.monotonic()
        self.text = server.request("GET", "/metrics")[1].decode()
        self.seconds = time.monotonic() - began
        families = list(text_string_to_metric_families(self.text))
        self.names = {family.name for family in families}
        self.samples = [sample for family in families for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """Sum of the samples that have these labels."""
        found = [
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert found, (name, labels)
        return sum(found)


@dataclass
class Client:
    """What one request saw."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0
    reason: str = ""
    sent: int = 0
    received: int = field(default=0)


def ask(server: Server, number: int) -> Client:
    body: dict[str, Any] = {
        "prompt": [7, 8, 9, 10] * 8 + [20 + number] * (number + 1),
        "max_tokens": 5 + number,
        "ignore_eos": True,
        "temperature": 0,
    }
    began = time.monotonic()
    answer = server.post("/v1/completions", body)
    usage = answer["usage"]
    return Client(
        usage["prompt_tokens"],
        usage["completion_tokens"],
        usage["prompt_tokens_details"]["cached_tokens"],
        time.monotonic() - began,
        answer["choices"][0]["finish_reason"],
    )


@pytest.fixture(scope="module")
def seen() -> Iterator[tuple[Page, list[Client]]]:
    with serving("--device", "cpu", "--frontends", "2") as server:
        with ThreadPoolExecutor(8) as pool:
            clients = list(pool.map(lambda number: ask(server, number), range(NUM)))
        assert server.request("POST", "/v1/completions", b"{")[0] == 400
        assert server.request("GET", "/nowhere/at/all")[0] == 404
        assert server.request("BREW", "/v1/models")[0] in (400, 405)
        time.sleep(1.2)  # the other frontend tells its counts once a second
        yield Page(server), clients


def test_tokens_and_requests(seen: tuple[Page, list[Client]]) -> None:
    page, clients = seen
    prompts = sum(one.prompt_tokens for one in clients)
    outputs = sum(one.output_tokens for one in clients)
    cached = sum(one.cached_tokens for one in clients)
    assert cached > 0
    assert page("vllm:prompt_tokens_total") == prompts
    assert page("vllm:generation_tokens_total") == outputs
    assert page("vllm:prompt_tokens_cached_total") == cached
    assert page("vllm:prompt_tokens_by_source_total", source="local_compute") == prompts - cached
    assert page("vllm:prompt_tokens_by_source_total", source="local_cache_hit") == cached
    assert page("vllm:prompt_tokens_cached_by_source_total", source="device") == cached
    assert page("vllm:request_success_total", finished_reason="length") == NUM
    assert page("vllm:request_success_total") == NUM
    assert page("vllm:prefix_cache_queries_total") == prompts
    assert page("vllm:prefix_cache_hits_total") == cached
    assert page("octavo:tenant_tokens_total") == outputs
    assert page("octavo:tenant_requests_total") == NUM


def test_histograms(seen: tuple[Page, list[Client]]) -> None:
    page, clients = seen
    outputs = sum(one.output_tokens for one in clients)
    for name in (
        *("request_prompt_tokens", "request_generation_tokens", "request_params_max_tokens"),
        *("request_params_n", "time_to_first_token_seconds", "e2e_request_latency_seconds"),
        *("request_queue_time_seconds", "request_prefill_time_seconds"),
        *("request_decode_time_seconds", "request_time_per_output_token_seconds"),
    ):
        assert page(f"vllm:{name}_count") == NUM, name
    assert page("vllm:inter_token_latency_seconds_count") == outputs - NUM
    assert page("vllm:request_generation_tokens_sum") == outputs
    assert page("vllm:request_prompt_tokens_sum") == sum(one.prompt_tokens for one in clients)
    assert page("vllm:request_params_max_tokens_sum") == sum(5 + n for n in range(NUM))
    assert page("vllm:request_generation_tokens_bucket", le="10.0") == 6  # 5 to 10
    total = sum(one.seconds for one in clients)
    assert 0.3 * total < page("vllm:e2e_request_latency_seconds_sum") < total
    parts = ("queue", "prefill", "decode")
    spent = sum(page(f"vllm:request_{part}_time_seconds_sum") for part in parts)
    assert spent == pytest.approx(page("vllm:e2e_request_latency_seconds_sum"), rel=0.01)


def test_steps_and_blocks(seen: tuple[Page, list[Client]]) -> None:
    page, _ = seen
    steps = page("vllm:iteration_tokens_total_count")
    assert page("octavo:steps_total") == page("octavo:step_duration_seconds_count") == steps
    assert page("octavo:graph_steps_total", graph="no") == steps
    blocks = page("vllm:cache_config_info"), page("octavo:kv_blocks", state="free")
    assert blocks[0] == 1 and blocks[1] > 0
    assert page("octavo:kv_blocks", state="used") == 0 == page("vllm:kv_cache_usage_perc")
    assert page("octavo:kv_blocks", state="findable") > 0
    assert page("octavo:process_restarts_total") == page("octavo:request_errors_total") == 0
    assert page("octavo:start_seconds", phase="imports") > 0


def test_http_of_all_frontends(seen: tuple[Page, list[Client]]) -> None:
    page, _ = seen
    route = {"handler": "/v1/completions", "method": "POST"}
    assert page("http_requests_total", status="2xx", **route) == NUM
    assert page("http_requests_total", status="4xx", **route) == 1
    assert page("http_requests_total", handler="none", method="GET", status="4xx") == 1
    assert page("http_request_duration_seconds_count", **route) == NUM + 1
    total = page("http_requests_total")
    assert page("http_request_duration_highr_seconds_count") == total
    assert page("http_response_size_bytes_count") == total
    assert page("http_response_size_bytes_sum", handler="/v1/completions") > NUM * 200


def test_names_and_form(seen: tuple[Page, list[Client]]) -> None:
    page, _ = seen
    assert {f"vllm:{name}" for name in ALWAYS_ON.split()} <= page.names
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool (Debian's package prometheus) is not installed")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=page.text, capture_output=True, text=True
    )
    # Names are vLLM's and the instrumentator's, whatever the linter thinks; the colon is meant.
    lines = [line for line in checked.stderr.splitlines() if "should not contain ':'" not in line]
    odd = [line for line in lines if not line.startswith(("vllm:", "http_"))]
    assert not odd, odd


def test_odd_methods_and_paths_make_no_series(seen: tuple[Page, list[Client]]) -> None:
    page, _ = seen
    handlers = {s.labels["handler"] for s in page.samples if s.name == "http_requests_total"}
    assert handlers <= {"none", "/v1/completions", "/v1/models"}
