"""/metrics: a known load, and every number compared with what its clients saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from metrics_load import (
    BLOCKS,
    FLAGS,
    KEYS,
    ONE_ID,
    QUEUED_REQUESTS,
    SLOTS,
    Client,
    Load,
    Page,
    codes,
    run,
)
from octavo_server import Server, serving

PARTS = ("device", "prepare", "forward", "sample", "receive", "update", "plan", "reply")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    path: Path = tmp_path_factory.mktemp("keys") / "keys.toml"
    path.write_text(KEYS)
    with serving(*FLAGS, "--api-key-file", str(path)) as server:
        found = Load(server)
        asyncio.run(run(found))
        assert codes(found.answered) == {None: len(found.answered)}
        yield found


def total(clients: list[Client]) -> int:
    return sum(len(one.ids) for client in clients for one in client.sequences)


def test_tokens(load: Load) -> None:
    page, clients = load.after, load.answered
    # A prompt counts for each of its choices.
    prompts = sum(one.prompt_tokens * len(one.choices) for one in clients)
    cached = sum(one.cached_tokens for one in clients)
    assert cached > 0
    assert page("vllm:prompt_tokens_total") == prompts == page("vllm:prefix_cache_queries_total")
    assert page("vllm:generation_tokens_total") == total(clients)
    assert page("vllm:prompt_tokens_cached_total") == cached == page("vllm:prefix_cache_hits_total")
    sources = {"local_compute": prompts - cached, "local_cache_hit": cached}
    for source, tokens in (sources | {"external_kv_transfer": 0}).items():
        assert page("vllm:prompt_tokens_by_source_total", source=source) == tokens
    assert page("vllm:prompt_tokens_cached_by_source_total", source="device") == cached
    assert page("vllm:prompt_tokens_cached_by_source_total") == cached
    for name in ("external_prefix_cache_queries", "external_prefix_cache_hits"):
        assert page(f"vllm:{name}_total") == 0
    for name in ("mm_cache_queries", "mm_cache_hits", "corrupted_requests"):
        assert page(f"vllm:{name}_total") == 0


def test_histograms_of_requests(load: Load) -> None:
    page, clients = load.after, load.answered
    choices = [one for client in clients for one in client.sequences]
    prompts = [one.prompt_tokens for one in clients for _ in one.choices]
    longest = [max(len(one.ids) for one in client.sequences) for client in clients]
    check(page, "request_prompt_tokens", prompts)
    check(page, "request_generation_tokens", [len(one.ids) for one in choices])
    check(page, "request_max_num_generation_tokens", longest)
    limits = [client.body["max_tokens"] for client in clients for _ in client.choices]
    check(page, "request_params_max_tokens", limits)
    check(page, "request_params_n", [client.body.get("n", 1) for client in clients])
    cached = sum(one.cached_tokens for one in clients)
    assert page("vllm:request_prefill_kv_computed_tokens_count") == len(choices)
    assert page("vllm:request_prefill_kv_computed_tokens_sum") == sum(prompts) - cached
    up_to_20 = sum(len(one.ids) <= 20 for one in choices)
    assert page("vllm:request_generation_tokens_bucket", le="20.0") == up_to_20


def check(page: Page, name: str, values: list[int]) -> None:
    assert page(f"vllm:{name}_count") == len(values), name
    assert page(f"vllm:{name}_sum") == sum(values), name


def test_preemptions(load: Load) -> None:
    """More ran than there is room for: somebody gave way, and was computed again."""
    page = load.after
    count = page("vllm:num_preemptions_total")
    assert count >= 1
    assert page("vllm:request_num_preemptions_sum") == count
    assert page("vllm:request_num_preemptions_count") == 11
    again = page("vllm:iteration_tokens_total_sum")
    prompts = page("vllm:prompt_tokens_by_source_total", source="local_compute")
    firsts = page("vllm:request_success_total")
    assert again > prompts + page("vllm:generation_tokens_total") - firsts


def test_times(load: Load) -> None:
    """What the server measured is within what the clients did, who are further away."""
    page, choices = load.after, []
    for client in load.answered:
        choices += [(client.sent, one.times) for one in client.sequences]
    firsts = sum(times[0] - sent for sent, times in choices)
    whole = sum(times[-1] - sent for sent, times in choices)
    spans = sum(times[-1] - times[0] for _, times in choices)
    count = len(choices)
    sums = {}
    for name in (
        *("time_to_first_token", "inter_token_latency", "request_time_per_output_token"),
        *("e2e_request_latency", "request_queue_time", "request_inference_time"),
        *("request_prefill_time", "request_decode_time"),
    ):
        sums[name] = page(f"vllm:{name}_seconds_sum")
        intervals = total(load.answered) - count
        expected = intervals if name == "inter_token_latency" else count
        assert page(f"vllm:{name}_seconds_count") == expected, name
    assert 0.3 * firsts < sums["time_to_first_token"] < firsts
    assert 0.3 * whole < sums["e2e_request_latency"] < whole
    assert 0.5 * spans < sums["inter_token_latency"] < 1.5 * spans
    assert sums["inter_token_latency"] == pytest.approx(sums["request_decode_time"], rel=0.01)
    parts = [sums[f"request_{part}_time"] for part in ("queue", "prefill", "decode")]
    assert min(parts) > 0
    assert sum(parts) == pytest.approx(sums["e2e_request_latency"], rel=0.01)
    assert sum(parts[1:]) == pytest.approx(sums["request_inference_time"], rel=0.01)
    assert sum(parts[:2]) == pytest.approx(sums["time_to_first_token"], rel=0.01)
    means = sum((times[-1] - times[0]) / (len(times) - 1) for _, times in choices)
    assert 0.5 * means < sums["request_time_per_output_token"] < 1.5 * means


def test_gauges_under_load_and_after(load: Load) -> None:
    sent = sum(len(client.choices) for client in load.answered)
    for name, most in (("num_requests_running", SLOTS), ("num_requests_waiting", sent)):
        seen = max(page(f"vllm:{name}") for page in load.during)
        assert 0 < seen <= most, name
        assert load.after(f"vllm:{name}") == 0
    by_reason = "vllm:num_requests_waiting_by_reason"
    assert max(page(by_reason, reason="capacity") for page in load.during) > 0
    assert all(page(by_reason) == page("vllm:num_requests_waiting") for page in load.during)
    assert 0 < max(page("vllm:kv_cache_usage_perc") for page in load.during) <= 1
    assert load.after("vllm:kv_cache_usage_perc") == 0
    assert load.after("vllm:engine_sleep_state", sleep_state="awake") == 1
    assert load.after("vllm:engine_sleep_state") == 1
    facts = {"num_gpu_blocks": str(BLOCKS), "block_size": "16", "enable_prefix_caching": "True"}
    assert load.after("vllm:cache_config_info", **facts) == 1
    assert load.began <= load.after("vllm:lora_requests_info") <= time.time()
    assert load.began - 120 < load.after("process_start_time_seconds") < load.began


def test_keys(load: Load) -> None:
    """Tokens count while they come, and for whoever asked for them."""
    page = load.after
    for name in ("a", "b"):
        clients = [one for one in load.answered if one.key == f"key-{name}"]
        ended = sum(len(one.choices) for one in clients)
        assert page("octavo:tenant_tokens_total", tenant=name) == total(clients)
        assert page("octavo:tenant_requests_total", tenant=name) == ended
    waited = page("octavo:tenant_queue_seconds_total", tenant="a")
    assert 0 < waited <= page("vllm:request_queue_time_seconds_sum") + 1e-6
    assert any(
        page("octavo:tenant_tokens_total", tenant="a") > 0
        and page("octavo:tenant_requests_total", tenant="a") == 0
        for page in load.during
        if 'tenant="a"' in page.text
    )


def test_steps_and_blocks(load: Load) -> None:
    page = load.after
    steps = page("vllm:iteration_tokens_total_count")
    assert page("octavo:steps_total") == page("octavo:step_duration_seconds_count") == steps
    assert page("octavo:graph_steps_total", graph="no") == steps
    device = page("octavo:step_duration_seconds_sum")
    assert page("octavo:engine_seconds_total", part="device") == pytest.approx(device)
    for part in PARTS:
        assert 0 < page("octavo:engine_seconds_total", part=part) < time.time() - load.began + 60
    assert page("octavo:kv_blocks", state="free") == BLOCKS
    assert page("octavo:kv_blocks", state="used") == 0
    assert page("octavo:kv_blocks", state="findable") > 0
    assert page("octavo:process_restarts_total") == page("octavo:request_errors_total") == 0
    assert page("octavo:start_seconds", phase="imports") > 0


def test_how_requests_ended(load: Load) -> None:
    """One of each kind, and as many as the clients saw of each."""
    stopped, string, repeated, late, once, limited, left = load.ended
    assert stopped.choices[0].ids == [ONE_ID] and stopped.choices[0].reason == "stop"
    assert string.choices[0].reason == "stop" and repeated.choices[0].reason == "repetition"
    assert (late.code, once.code, limited.code) == (
        "deadline_exceeded",
        None,
        "rate_limit_exceeded",
    )
    assert len(left.choices[0].ids) >= 3
    served = [one for one in load.crowd if one.code is None]
    reasons = [one.reason for client in load.answered for one in client.sequences]
    ended = {
        "length": reasons.count("length") + len(served) + 1,
        "stop": reasons.count("stop") + 2,
        "repetition": 1,
        "abort": 1,
        "error": 1,
    }
    for reason, number in ended.items():
        assert load.end("vllm:request_success_total", finished_reason=reason) == number, reason


def test_refusals(load: Load) -> None:
    small, large = load.crowd[:20], load.crowd[20:]
    refused = [codes(part)["overloaded"] for part in (small, large)]
    assert refused[0] >= 20 - QUEUED_REQUESTS - SLOTS and refused[1] > 0
    rejected = "vllm:admission_rejections_total"
    by_requests = load.end(rejected, reason="max_num_queued_reqs")
    by_tokens = load.end(rejected, reason="max_num_queued_tokens")
    assert by_requests >= refused[0] > 0 and by_tokens > 0
    assert by_requests + by_tokens == sum(refused)
    errors = {"overloaded": sum(refused), "rate_limited": 1, "deadline_exceeded": 1}
    for code, number in errors.items():
        assert load.end("octavo:request_errors_total", code=code) == number
    assert load.end("octavo:request_errors_total") == sum(errors.values())


def test_http_of_all_frontends(load: Load) -> None:
    """By the status that each client saw."""
    server, route = load.server, {"handler": "/v1/completions", "method": "POST"}
    clients = [*load.answered, *load.ended, *load.crowd]
    for kind in (2, 4, 5):
        number = sum(one.status // 100 == kind for one in clients)
        assert load.end("http_requests_total", status=f"{kind}xx", **route) == number > 0
    assert load.end("http_request_duration_seconds_count", **route) == len(clients)
    every = load.end("http_requests_total")
    assert every == len(clients)
    assert load.end("http_request_duration_highr_seconds_count") == every
    assert load.end("http_response_size_bytes_count") == every
    handler = {"handler": "/v1/completions"}
    heard, said = (sum(getattr(one, name) for one in load.answered) for name in ("heard", "said"))
    assert load.after("http_response_size_bytes_sum", **handler) == heard > 0
    assert load.after("http_request_size_bytes_sum", **handler) == said > 0
    odd(server)


def odd(server: Server) -> None:
    """What is no route, or no method, makes one series for all."""
    for method, path in (("GET", "/nowhere/at/all"), ("BREW", "/v1/models"), ("GET", "/version")):
        server.request(method, path)
    time.sleep(1.2)
    page = Page(server.request("GET", "/metrics", headers=WATCH)[1].decode())
    handlers = {s.labels["handler"] for s in page.samples if s.name == "http_requests_total"}
    assert handlers <= {"none", "/v1/completions", "/v1/models"} and "none" in handlers
    assert {s.labels.get("method") for s in page.samples} <= {None, "GET", "POST", "OTHER"}


WATCH = {"Authorization": "Bearer key-watch"}


def test_parsers_of_tool_calls(load: Load) -> None:
    """Once a choice, in streams once a delta, and not where no tools are."""
    name = "vllm:tool_call_parser_invocations_total"
    assert load.end(name) == 0
    tool = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
    body = {
        "messages": [{"role": "user", "content": "What time is it?"}],
        "tools": [tool],
        "tool_choice": "required",
        "max_tokens": 64,
    }
    status, _ = load.server.request("POST", "/v1/chat/completions", body, headers=ASK)
    assert status == 200
    time.sleep(1.2)
    page = Page(load.server.request("GET", "/metrics", headers=WATCH)[1].decode())
    labels = {"mode": "non_streaming", "request_type": "chat_completions"}
    assert page(name, outcome="tool_call", **labels) == 1 == page(name)


ASK = {"Authorization": "Bearer key-a"}
