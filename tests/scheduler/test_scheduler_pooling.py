"""Requests that want a vector: prompts alone, whole or in chunks, with any load and any aborts."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sched_fake_worker import expected_vector
from sched_harness import VOCAB, Harness, limits_of, submit_of

from octavo.shared.messages import Submit, unpack
from octavo.shared.pooling import PoolingParams

QUICK = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
LIMITS = st.fixed_dictionaries(
    {
        "num_blocks": st.integers(8, 40),
        "block_size": st.sampled_from([1, 2, 4, 8]),
        "max_num_seqs": st.integers(1, 6),
        "max_num_batched_tokens": st.sampled_from([3, 7, 16, 64]),
        "whole_prompts": st.booleans(),
    }
)
REQUESTS = st.lists(
    st.tuples(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=40), st.integers(0, 2)),
    min_size=1,
    max_size=14,
)


def pool_limits(**changes: int | bool) -> Any:
    return limits_of(**({"pooling": True, "prefix_caching": False} | changes))


def pool_of(number: int, prompt: list[int], **fields: Any) -> Submit:
    return submit_of(number, prompt, max_tokens=1, pooling=PoolingParams(), **fields)


@QUICK
@given(LIMITS, REQUESTS, st.sampled_from([1, 2]), st.randoms(use_true_random=False))
def test_any_load_with_aborts_at_any_time(
    changes: dict[str, Any], prompts: list[tuple[list[int], int]], depth: int, rng: random.Random
) -> None:
    harness = Harness(pool_limits(**changes), depth)
    requests = [pool_of(i, prompt, priority=rank) for i, (prompt, rank) in enumerate(prompts)]
    queue, aborted = list(requests), set()
    while queue:
        match rng.randrange(7):
            case 0 | 1:
                harness.submit(queue.pop(), rng.choice([b"frontend-0", b"frontend-1"]))
            case 2:
                number = rng.randrange(len(requests))
                record = harness.records.get(requests[number].request_id)
                if record is not None:
                    harness.abort(number, peer=record.peer)
                    aborted.add(number)
            case 3 | 4:
                harness.dispatch()
            case _:
                harness.complete()
    harness.drain()
    for number, submit in enumerate(requests):
        record, prompt = harness.records[submit.request_id], unpack(submit.prompt_ids).tolist()
        finished = record.finished
        assert finished is not None and record.token_ids == []
        match finished.reason:
            case "stop":
                assert record.vector == expected_vector(prompt)
            case "abort":
                assert number in aborted and record.vector is None
            case _:
                limits = harness.limits
                too_many = limits.blocks_for(len(prompt)) > limits.num_blocks
                assert finished.error == "too_long" and record.vector is None
                assert too_many or len(prompt) > limits.longest_prompt


def test_a_prompt_may_fill_the_context() -> None:
    harness = Harness(pool_limits(max_model_len=20))
    for number, length in enumerate((20, 21)):
        harness.submit(pool_of(number, [5] * length))
    harness.drain()
    assert harness.record(0).vector == expected_vector([5] * 20)
    finished = harness.record(1).finished
    assert finished is not None and finished.error == "too_long"


def test_whole_prompts_share_steps_as_they_fit() -> None:
    harness = Harness(pool_limits(whole_prompts=True, max_num_seqs=8), depth=1)
    for number, length in enumerate((9, 7, 10, 6, 16, 1)):
        harness.submit(pool_of(number, [number] * length))
    harness.drain()
    assert [unpack(plan.num_tokens).tolist() for plan in harness.history] == [
        [9, 7],
        [10, 6],
        [16],
        [1],
    ]


def test_a_vector_that_is_no_number_ends_its_request_alone() -> None:
    harness = Harness(pool_limits())
    harness.worker.poisoned = {7}
    harness.submit(pool_of(0, [1, 2, 7]))
    harness.submit(pool_of(1, [1, 2, 8]))
    harness.drain()
    finished = harness.record(0).finished
    assert finished is not None and finished.error == "numerical_error"
    assert harness.record(1).vector == expected_vector([1, 2, 8])


@pytest.mark.parametrize("pools", [True, False])
def test_what_the_server_is_not_for_is_refused(pools: bool) -> None:
    harness = Harness(pool_limits() if pools else limits_of())
    harness.submit(submit_of(0, [1]) if pools else pool_of(0, [1]))
    finished = harness.record(0).finished
    assert finished is not None and finished.error == "internal_error"


def test_metrics_count_what_was_pooled() -> None:
    harness = Harness(pool_limits())
    for number in range(3):
        harness.submit(pool_of(number, [1, 2, 3]))
    harness.drain()
    text = harness.scheduler.metrics_text().decode()
    labels = '{engine="0",model_name="tiny"}'
    assert f"vllm:prompt_tokens_total{labels} 9.0" in text
    assert f"vllm:generation_tokens_total{labels} 0.0" in text
    assert f"vllm:e2e_request_latency_seconds_count{labels} 3.0" in text
