from __future__ import annotations

import time

import msgspec
import numpy as np
import pytest
from machine import slowness
from prometheus_client.parser import text_string_to_metric_families
from sched_harness import PEER, Harness, limits_of, request_id, submit_of

from octavo.services.scheduler.histogram import Histogram, one_two_five
from octavo.services.scheduler.tenant_counts import MAX_KEYS, NO_KEY, OTHERS, TenantCounts
from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.keys import Quota

LABELS = {"model_name": "tiny", "engine": "0"}


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(harness: Harness, name: str, **labels: str) -> float:
    found = samples(harness.scheduler.metrics_text())
    return found[f"vllm:{name}", frozenset((LABELS | labels).items())]


def test_one_two_five() -> None:
    assert one_two_five(60) == [1, 2, 5, 10, 20, 50]
    assert one_two_five(1) == [1]


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.7], [0.1, 1.0, 1.5, 99.0], [2.0, 2.0], []])
def test_many_at_once_count_like_one_by_one(values: list[float]) -> None:
    single, many = Histogram([0.5, 1, 2]), Histogram([0.5, 1, 2])
    for number in values:
        single.observe(number)
    many.observe_many(np.asarray(values, np.float64))
    names = [one.family("a", {"b": "c"}, "d").samples for one in (single, many)]
    assert names[0] == names[1]
    assert many.count == len(values)


def test_upper_bounds_are_inclusive() -> None:
    histogram = Histogram([1, 2])
    histogram.observe(1.0)
    family = histogram.family("a", {}, "")
    assert [sample.value for sample in family.samples][:3] == [1, 1, 1]


def test_a_request_leaves_its_traces() -> None:
    harness = Harness(limits_of(), depth=1)
    prompt = list(range(9))
    for number in range(2):
        harness.submit(submit_of(number, prompt, max_tokens=5, arrival_time=0.0))
        harness.drain()
    assert value(harness, "prompt_tokens_total") == 18
    assert value(harness, "generation_tokens_total") == 10
    assert value(harness, "prompt_tokens_cached_total") == 8
    assert value(harness, "prompt_tokens_by_source_total", source="local_compute") == 10
    assert value(harness, "prefix_cache_queries_total") == 18
    assert value(harness, "prefix_cache_hits_total") == 8
    assert value(harness, "request_success_total", finished_reason="length") == 2
    assert value(harness, "request_success_total", finished_reason="abort") == 0
    # Steps take 10 ms: the first request's token comes after one step, the second's after six.
    assert value(harness, "time_to_first_token_seconds_sum") == pytest.approx(0.07)
    assert value(harness, "inter_token_latency_seconds_count") == 8
    assert value(harness, "inter_token_latency_seconds_sum") == pytest.approx(0.08)
    assert value(harness, "e2e_request_latency_seconds_sum") == pytest.approx(0.15)
    assert value(harness, "request_decode_time_seconds_sum") == pytest.approx(0.08)
    assert value(harness, "request_generation_tokens_bucket", le="5.0") == 2
    assert value(harness, "iteration_tokens_total_sum") == 18 - 8 + 8
    assert value(harness, "num_requests_running") == 0


def test_n_is_counted_once_a_request() -> None:
    harness = Harness(limits_of(), depth=1)
    for number in range(3):
        harness.submit(submit_of(number, [1, 2], num_choices=0 if number else 3))
    harness.drain()
    assert value(harness, "request_params_n_count") == 1
    assert value(harness, "request_params_n_sum") == 3


def test_gauges_and_the_cache_configuration() -> None:
    harness = Harness(limits_of(num_blocks=8, max_num_seqs=1))
    for number in range(2):
        harness.submit(submit_of(number, [1] * 8))
    harness.dispatch()
    assert value(harness, "num_requests_running") == 1
    assert value(harness, "num_requests_waiting") == 1
    assert value(harness, "num_requests_waiting_by_reason", reason="capacity") == 1
    assert value(harness, "num_requests_waiting_by_reason", reason="deferred") == 0
    assert value(harness, "kv_cache_usage_perc") == 0.25
    facts = {"block_size": "4", "num_gpu_blocks": "8", "enable_prefix_caching": "True"}
    assert value(harness, "cache_config_info", **facts) == 1


def test_preemptions_and_rejections_are_counted() -> None:
    harness = Harness(limits_of(num_blocks=6, max_num_seqs=2, max_queued_requests=2))
    for number in range(3):
        harness.submit(submit_of(number, [number] * 8, max_tokens=12))
    harness.drain()
    found = samples(harness.scheduler.metrics_text())
    labels = frozenset({"model_name": "tiny", "reason": "max_num_queued_reqs"}.items())
    assert found["vllm:admission_rejections_total", labels] == 1
    assert value(harness, "num_preemptions_total") >= 1
    decoding = value(harness, "request_decode_time_seconds_sum")
    assert value(harness, "inter_token_latency_seconds_sum") == pytest.approx(decoding)
    # A resumed request's tokens count once.
    assert value(harness, "generation_tokens_total") == 24
    assert value(harness, "prompt_tokens_total") == 16


def test_times_outlast_the_scheduler() -> None:
    """A request that another scheduler began was admitted, and had its first token, there."""
    harness = Harness(limits_of(max_num_seqs=2), depth=1)
    harness.now = 5.0
    for number in range(3):
        harness.submit(submit_of(number, [1] * 8, max_tokens=9, arrival_time=4.9))
    for _ in range(4):
        harness.turn()
    harness.now += 100.0
    harness.lose_scheduler(late=False)
    harness.drain()
    begun = value(harness, "e2e_request_latency_seconds_sum")
    parts = [
        value(harness, f"request_{part}_time_seconds_sum")
        for part in ("queue", "prefill", "decode")
    ]
    assert begun == pytest.approx(sum(parts))
    assert 2 * 0.1 + 100 < parts[0] < 2 * 0.1 + 101, "only one had to wait"
    assert parts[1] == pytest.approx(0.03, abs=0.011)
    assert value(harness, "inter_token_latency_seconds_sum") == pytest.approx(200.2, abs=0.2)
    first = harness.record(0).finished
    assert first is not None
    assert 5.0 <= first.admitted_time < first.first_token_time < 5.1


def own(harness: Harness, name: str, **labels: str) -> float:
    found = samples(harness.scheduler.metrics_text())
    return found[f"octavo:{name}", frozenset((LABELS | labels).items())]


def test_the_longest_choice_is_said_once_for_all() -> None:
    """As vLLM does; another request's choices end between theirs."""
    harness = Harness(limits_of(), depth=1)
    for number, max_tokens in enumerate((2, 9, 4)):
        harness.submit(submit_of(number, [1, 2], max_tokens=max_tokens, parent=b"p" * 16))
    harness.submit(submit_of(3, [1, 2], max_tokens=3))
    harness.abort(2)
    harness.drain()
    assert value(harness, "request_max_num_generation_tokens_count") == 2
    assert value(harness, "request_max_num_generation_tokens_sum") == 9 + 3
    assert value(harness, "request_generation_tokens_count") == 4


def test_who_waits_for_a_grammar_is_deferred() -> None:
    harness = Harness(limits_of())
    harness.submit(submit_of(0, [1, 2], grammar=GrammarSpec("regex", "a+")))
    assert value(harness, "num_requests_waiting") == 1
    assert value(harness, "num_requests_waiting_by_reason", reason="deferred") == 1
    assert value(harness, "num_requests_waiting_by_reason", reason="capacity") == 0


def test_tokens_count_for_a_key_as_they_come() -> None:
    """By the names of keys; who comes without one is nobody in particular."""
    harness = Harness(limits_of(max_num_seqs=3, tenant_slowdown=0.0), depth=1)
    harness.now = 1.0
    quotas = {name: Quota(name) for name in ("a", "b")}
    for number, name in enumerate(("a", "b", "c", "a")):
        harness.submit(
            submit_of(
                number, [1] * 4, max_tokens=8, tenant=name, quota=quotas.get(name), arrival_time=0.5
            )
        )
    for _ in range(4):
        harness.turn()
    tokens = [own(harness, "tenant_tokens_total", tenant=name) for name in ("a", "b", "(none)")]
    assert tokens == [4, 4, 4] and sum(tokens) == value(harness, "generation_tokens_total")
    assert own(harness, "tenant_queue_seconds_total", tenant="b") == pytest.approx(0.5)
    harness.drain()
    tokens = [own(harness, "tenant_tokens_total", tenant=name) for name in ("a", "b", "(none)")]
    assert tokens == [16, 8, 8]
    assert own(harness, "tenant_requests_total", tenant="a") == 2
    assert own(harness, "tenant_queue_seconds_total", tenant="a") > 0.5 + 0.5


def test_more_keys_than_series() -> None:
    counts = TenantCounts()
    for number in range(MAX_KEYS + 2):
        counts.join(number, f"k{number}", f"k{number}")
    counts.on_tokens(np.arange(MAX_KEYS + 2))
    (tokens, *_) = counts.families({})
    values = {sample.labels["tenant"]: sample.value for sample in tokens.samples}
    assert len(values) == MAX_KEYS + 2 and values[OTHERS] == 2 and values[NO_KEY] == 0
    counts.join(3, "another", "k0")
    counts.on_tokens(np.array([3, 3]))
    assert counts.had(3) == 2 and counts.had(4) == 1


def test_new_workers_have_compiled_nothing_that_counts_less() -> None:
    harness = Harness(limits_of())

    def step(compilations: int) -> None:
        harness.dispatch()
        result = harness.worker.run(harness.plans.popleft())
        harness.scheduler.update(msgspec.structs.replace(result, compilations=compilations))

    harness.submit(submit_of(0, [1, 2], max_tokens=30))
    for number in (0, 2, 2):
        step(number)
    assert own(harness, "compilations_total") == 2
    harness.lose_workers(late=False)
    step(3)
    assert own(harness, "compilations_total") == 5


def test_where_the_time_of_a_step_went() -> None:
    harness = Harness(limits_of(), depth=1)
    harness.submit(submit_of(0, [1, 2], max_tokens=2))
    harness.dispatch()
    result = harness.worker.run(harness.plans.popleft())
    spent = {"prepare": 0.1, "forward": 0.2, "sample": 0.3}
    harness.scheduler.update(msgspec.structs.replace(result, forward_seconds=1.0, spent=spent))
    for part, seconds in {**spent, "device": 1.0}.items():
        assert own(harness, "engine_seconds_total", part=part) == seconds


def test_a_page_with_everything_running_is_made_quickly() -> None:
    """Of 1,000 streams of 100 keys: CPU time, of which the limit on an answer leaves room for the
    way to the client."""
    harness = Harness(
        limits_of(num_blocks=4096, max_num_seqs=1000, max_num_batched_tokens=8192), depth=1
    )
    for number in range(1000):
        name = f"key-{number % 100}"
        harness.scheduler.add(
            PEER, submit_of(number, [1] * 4, max_tokens=30, tenant=name, quota=Quota(name))
        )
    for _ in range(3):
        plan = harness.scheduler.schedule()
        assert plan is not None
        harness.scheduler.update(harness.worker.run(plan))
    seconds = []
    for _ in range(5):
        began = time.thread_time()
        text = harness.scheduler.metrics_text()
        seconds.append(time.thread_time() - began)
    assert text.count(b"octavo:tenant_tokens_total{") == 101
    assert b'vllm:num_requests_running{engine="0",model_name="tiny"} 1000.0' in text
    assert min(seconds) < 0.015 * slowness()


def test_an_end_that_the_text_brought_counts_as_that() -> None:
    harness = Harness(limits_of())
    for number, reason in enumerate(("stop", "repetition", "abort")):
        harness.submit(submit_of(number, [1, 2]))
        harness.scheduler.abort(PEER, [request_id(number)], reason)  # type: ignore[arg-type]
    for reason in ("stop", "repetition", "abort"):
        assert value(harness, "request_success_total", finished_reason=reason) == 1
