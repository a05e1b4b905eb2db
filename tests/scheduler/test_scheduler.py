"""What the scheduler does, one case at a time."""

from __future__ import annotations

import pytest
from sched_fake_worker import expected_output
from sched_harness import VOCAB, Harness, limits_of, request_id, submit_of

from octavo.shared.messages import Submit, pack, unpack
from octavo.shared.sampling import SamplingParams
from octavo.shared.steps import BROKEN_TOKEN, INVALID_TOKEN, STUCK_TOKEN, StepResult

PROMPT = [7, 1, 9, 4, 2, 8, 3, 3, 6]


def output_of(prompt: list[int], limit: int = 64, **params: object) -> tuple[list[int], str]:
    sampling = SamplingParams(**{"max_tokens": 5, **params})  # type: ignore[arg-type]
    return expected_output(prompt, sampling, VOCAB, limit)


def rows_of(harness: Harness, index: int = -1) -> dict[int, int]:
    plan = harness.history[index]
    return dict(zip(unpack(plan.slots).tolist(), unpack(plan.num_tokens).tolist(), strict=True))


def test_a_long_prompt_is_computed_in_chunks_beside_decodes() -> None:
    harness = Harness(limits_of(max_num_batched_tokens=4), depth=1)
    harness.submit(submit_of(0, [5], max_tokens=20))
    harness.turn()
    harness.submit(submit_of(1, PROMPT))
    chunks = []
    for _ in range(3):
        harness.turn()
        chunks.append(rows_of(harness))
    assert chunks == [{0: 1, 1: 3}] * 3
    harness.drain()
    assert harness.record(1).token_ids == output_of(PROMPT)[0]


def test_two_steps_are_in_flight_and_a_request_is_said_once() -> None:
    harness = Harness(limits_of())
    harness.submit(submit_of(0, PROMPT))
    assert harness.dispatch() and harness.dispatch()
    assert [len(plan.new_rows) for plan in harness.plans] == [1, 0]
    assert rows_of(harness) == {0: 1}
    harness.drain()


def test_the_last_allowed_token_is_not_computed_further() -> None:
    harness = Harness(limits_of())
    harness.submit(submit_of(0, PROMPT, max_tokens=2))
    assert harness.dispatch() and harness.dispatch()
    harness.depth = 3
    assert not harness.dispatch(), "its second and last token is in flight"
    harness.drain()
    assert harness.worker.tokens_computed == len(PROMPT) + 1


def test_a_stop_costs_one_token_that_nobody_sees() -> None:
    ids, _ = output_of(PROMPT, max_tokens=20)
    stop = ids[3]
    harness = Harness(limits_of())
    harness.submit(submit_of(0, PROMPT, max_tokens=20, eos_token_ids=[stop]))
    harness.drain()
    record = harness.record(0)
    assert record.token_ids == ids[: ids.index(stop) + 1]
    assert record.finished is not None
    assert (record.finished.reason, record.finished.stop_id) == ("stop", stop)
    assert harness.worker.tokens_computed == len(PROMPT) + len(record.token_ids)


def test_min_tokens_and_ignore_eos_pass_over_a_stop_id() -> None:
    stop = output_of(PROMPT)[0][0]
    for params in ({"min_tokens": 2}, {"ignore_eos": True}):
        harness = Harness(limits_of())
        harness.submit(submit_of(0, PROMPT, eos_token_ids=[stop], **params))
        harness.drain()
        assert len(harness.record(0).token_ids) > 1


def test_max_model_len_ends_a_request() -> None:
    harness = Harness(limits_of(max_model_len=12))
    harness.submit(submit_of(0, PROMPT, max_tokens=None))
    harness.drain()
    assert len(harness.record(0).token_ids) == 3


def test_a_prefix_is_reused_but_never_the_whole_prompt() -> None:
    harness = Harness(limits_of())
    for number, prompt in enumerate([PROMPT[:8], PROMPT[:8], PROMPT]):
        harness.submit(submit_of(number, prompt))
        harness.drain()
    assert [harness.record(number).cached_tokens for number in range(3)] == [0, 4, 8]


def test_outputs_are_reused_as_the_next_turn_of_a_conversation() -> None:
    harness = Harness(limits_of())
    harness.submit(submit_of(0, PROMPT, max_tokens=8))
    harness.drain()
    harness.submit(submit_of(1, PROMPT + harness.record(0).token_ids))
    harness.drain()
    assert harness.record(1).cached_tokens == 16


@pytest.mark.parametrize("fields", [{"cache_salt": "other"}, {"prompt_logprobs": 0}])
def test_requests_that_do_not_reuse(fields: dict[str, object]) -> None:
    harness = Harness(limits_of())
    harness.submit(submit_of(0, PROMPT))
    harness.drain()
    harness.submit(submit_of(1, PROMPT, **fields))
    harness.drain()
    assert harness.record(1).cached_tokens == 0


def test_scored_prompts_do_not_wait_for_hits_they_never_take() -> None:
    harness = Harness(limits_of(max_num_batched_tokens=64))
    for number in range(4):
        harness.submit(submit_of(number, PROMPT, prompt_logprobs=0, max_tokens=1))
    plan = harness.scheduler.schedule()
    assert plan is not None
    assert len(plan.new_rows) == 4


@pytest.mark.parametrize("bad", [-1, limits_of().vocab_size])
def test_ids_that_the_model_does_not_have_are_refused(bad: int) -> None:
    harness = Harness(limits_of())
    harness.submit(submit_of(0, [*PROMPT, bad]))
    finished = harness.record(0).finished
    assert finished is not None and finished.error == "internal_error"


def test_equal_prompts_that_come_together_are_computed_once() -> None:
    harness = Harness(limits_of(max_num_batched_tokens=64))
    for number in range(4):
        harness.submit(submit_of(number, PROMPT, max_tokens=1))
    harness.drain()
    assert [harness.record(number).cached_tokens for number in range(4)] == [0, 8, 8, 8]
    assert harness.worker.tokens_computed == 9 + 3


def test_preemption_takes_the_last_in_order_and_loses_nothing() -> None:
    harness = Harness(limits_of(num_blocks=8, max_model_len=32, prefix_caching=False))
    prompts = [[number] * 8 for number in range(3)]
    for number, prompt in enumerate(prompts):
        harness.submit(submit_of(number, prompt, max_tokens=16))
    harness.drain()
    for number, prompt in enumerate(prompts):
        assert harness.record(number).token_ids == output_of(prompt, 32, max_tokens=16)[0]
    resumed = [row for plan in harness.history for row in plan.new_rows][3:]
    assert resumed, "blocks ran out"
    first = unpack(resumed[0].token_ids).tolist()
    assert first[:8] in prompts[1:] and len(first) > 8 == resumed[0].prompt_len


def test_a_token_in_flight_of_a_preempted_request_still_arrives() -> None:
    harness = Harness(limits_of(num_blocks=5, max_num_seqs=2, max_model_len=32))
    for number in range(2):
        harness.submit(submit_of(number, [number + 1] * 7, max_tokens=10))
    left_with_a_token_in_flight = False
    while harness.life.requests:
        while harness.dispatch():
            pass
        waiting = [one for one in harness.life.requests.values() if one.slot < 0]
        left_with_a_token_in_flight |= any(one.pending for one in waiting)
        harness.complete()
    assert left_with_a_token_in_flight
    for number in range(2):
        assert harness.record(number).token_ids == output_of([number + 1] * 7, max_tokens=10)[0]


def test_a_slot_may_change_hands_twice_while_a_step_is_in_flight() -> None:
    harness = Harness(limits_of(max_num_seqs=1), depth=3)
    harness.submit(submit_of(0, PROMPT, priority=1, max_tokens=8))
    harness.dispatch()
    harness.submit(submit_of(1, [1], priority=0))
    harness.dispatch()
    harness.abort(1)
    assert not harness.dispatch(), "a token of the preempted request is in flight"
    harness.drain()
    assert harness.record(0).token_ids == output_of(PROMPT, max_tokens=8)[0]


def test_what_an_unfinished_step_computed_of_an_output_is_not_found() -> None:
    """Its numbers may turn out not to be sound."""
    harness = Harness(limits_of())
    stop = output_of(PROMPT[:7])[0][0]
    harness.submit(submit_of(0, PROMPT[:7], eos_token_ids=[stop]))
    harness.turn()
    assert harness.record(0).finished is not None and len(harness.plans) == 1
    assert len(harness.life.kv.cache) == 1
    harness.drain()


def test_better_priority_takes_the_slot_of_a_worse_one() -> None:
    harness = Harness(limits_of(max_num_seqs=1), depth=1)
    harness.submit(submit_of(0, PROMPT, priority=5, max_tokens=10))
    harness.turn()
    harness.submit(submit_of(1, PROMPT[::-1], priority=5))
    harness.turn()
    assert len(harness.history[-1].new_rows) == 0, "equal priority waits"
    harness.submit(submit_of(2, PROMPT[1:], priority=0))
    harness.turn()
    assert harness.history[-1].new_rows[0].prompt_len == 8
    harness.drain()
    assert harness.record(0).token_ids == output_of(PROMPT, max_tokens=10)[0]


def test_better_priority_takes_the_blocks_of_worse_ones() -> None:
    harness = Harness(limits_of(num_blocks=9, max_num_seqs=4), depth=1)
    for number in range(3):
        harness.submit(submit_of(number, [number] * 8, priority=number, max_tokens=4))
    harness.turn()
    harness.turn()
    harness.submit(submit_of(3, PROMPT, priority=1))
    harness.turn()
    assert sorted((one.priority, one.arrival_time) for one in harness.life.running.values()) == [
        (0, 0.0),
        (1, 1.0),
        (1, 3.0),
    ]
    harness.drain()


def test_nobody_overtakes_a_request_that_does_not_fit_yet() -> None:
    harness = Harness(limits_of(num_blocks=8, prefix_caching=False), depth=1)
    harness.submit(submit_of(0, [1] * 16, max_tokens=4))
    harness.submit(submit_of(1, [2] * 20))
    harness.submit(submit_of(2, [3]))
    harness.turn()
    assert len(harness.life.running) == 1
    harness.drain()
    order = [row.prompt_len for plan in harness.history for row in plan.new_rows]
    assert order == [16, 20, 1]


@pytest.mark.parametrize(
    ("prompt", "limits"),
    [([1] * 40, {"num_blocks": 8}), ([1] * 30, {"num_blocks": 8}), ([1] * 64, {})],
)
def test_what_can_never_fit_ends_with_too_long(prompt: list[int], limits: dict[str, int]) -> None:
    harness = Harness(limits_of(**limits))
    harness.submit(submit_of(0, prompt, max_tokens=10))
    harness.submit(submit_of(1, PROMPT))
    harness.drain()
    finished = harness.record(0).finished
    assert finished is not None
    assert (finished.reason, finished.error) == ("error", "too_long")
    assert finished.message
    assert harness.record(1).token_ids == output_of(PROMPT)[0]


def test_admission_is_bounded() -> None:
    harness = Harness(limits_of(max_queued_requests=2))
    for number in range(3):
        harness.submit(submit_of(number, PROMPT))
    finished = harness.record(2).finished
    assert finished is not None and finished.error == "overloaded"
    harness.drain()
    harness.submit(submit_of(3, PROMPT))
    harness.drain()
    assert harness.record(3).token_ids == output_of(PROMPT)[0]


def test_a_known_id_is_ignored() -> None:
    harness = Harness(limits_of())
    harness.submit(submit_of(0, PROMPT))
    harness.submit(submit_of(0, [1]))
    harness.drain()
    assert harness.record(0).token_ids == output_of(PROMPT)[0]


@pytest.mark.parametrize("prompt_ids", [b"", b"abc"])
def test_a_malformed_prompt_ends_that_request_only(prompt_ids: bytes) -> None:
    harness = Harness(limits_of())
    bad = Submit(
        request_id=request_id(0),
        prompt_ids=prompt_ids,
        sampling=SamplingParams(),
        arrival_time=0.0,
    )
    harness.submit(bad)
    harness.submit(submit_of(1, PROMPT))
    harness.drain()
    finished = harness.record(0).finished
    assert finished is not None and finished.error == "internal_error"


def test_a_fault_at_admission_ends_that_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(limits_of())
    kv = harness.life.kv
    find = kv.find
    monkeypatch.setattr(
        kv, "find", lambda one: find(one) if one.order[2] else (_ for _ in ()).throw(ValueError())
    )
    for number in range(2):
        harness.submit(submit_of(number, PROMPT))
    harness.drain()
    finished = harness.record(0).finished
    assert finished is not None and finished.error == "internal_error"
    assert harness.record(1).token_ids == output_of(PROMPT)[0]


def test_abort_at_every_stage() -> None:
    harness = Harness(limits_of(max_num_seqs=1))
    for number in range(3):
        harness.submit(submit_of(number, PROMPT, max_tokens=20))
    harness.turn()
    harness.abort(0, 2, 99)
    harness.abort(1, peer=b"frontend-9")
    finished = [harness.record(number).finished for number in range(3)]
    assert [one and one.reason for one in finished] == ["abort", None, "abort"]
    harness.drain()
    assert harness.record(1).token_ids == output_of(PROMPT, max_tokens=20)[0]


@pytest.mark.parametrize("turns", [1, 5])
def test_an_abort_frees_blocks_at_once_and_costs_what_is_in_flight(turns: int) -> None:
    """Two steps: nothing is computed of it any more that was not on its way. In its prompt, too."""
    harness = Harness(limits_of(max_num_batched_tokens=8))
    harness.submit(submit_of(0, [1, 2, 3], max_tokens=40))
    for _ in range(3):
        harness.turn()
    harness.submit(submit_of(1, PROMPT * 3, max_tokens=20))
    for _ in range(turns):
        harness.turn()
    harness.dispatch()
    harness.dispatch()
    [other] = [one for one in harness.life.running.values() if one.request_id == request_id(0)]
    planned = len(harness.history)
    slot = next(slot for slot, one in harness.life.running.items() if one is not other)
    harness.abort(1)
    assert harness.life.kv.pool.num_used == len(other.block_ids)
    for _ in range(6):
        harness.turn()
    assert all(slot not in rows_of(harness, i) for i in range(planned, len(harness.history)))
    assert len(harness.history) > planned + 2
    harness.drain()


def test_a_frontend_that_came_back_loses_its_requests_in_silence() -> None:
    harness = Harness(limits_of())
    harness.submit(submit_of(0, PROMPT), b"frontend-1")
    harness.submit(submit_of(1, PROMPT))
    harness.turn()
    harness.scheduler.abort_all(b"frontend-1")
    assert harness.scheduler.take_outputs() == []
    assert list(harness.life.requests) == [request_id(1)]


def test_invalid_numbers_end_a_request_and_its_blocks_are_not_reused() -> None:
    harness = Harness(limits_of())
    harness.worker.poisoned = {PROMPT[-1]}
    harness.submit(submit_of(0, PROMPT))
    harness.submit(submit_of(1, [9, 9, 1, 2, 3]))
    harness.drain()
    finished = harness.record(0).finished
    assert finished is not None
    assert (finished.reason, finished.error) == ("error", "numerical_error")
    assert harness.record(0).token_ids == []
    assert len(harness.record(1).token_ids) == 5
    harness.worker.poisoned = set()
    harness.submit(submit_of(2, PROMPT))
    harness.drain()
    assert harness.record(2).cached_tokens == 0
    assert harness.record(2).token_ids == output_of(PROMPT)[0]


def test_invalid_numbers_of_an_aborted_request_are_not_reused_either() -> None:
    harness = Harness(limits_of(), depth=1)
    harness.submit(submit_of(0, PROMPT))
    harness.dispatch()
    harness.abort(0)
    step = harness.plans.popleft().step
    harness.scheduler.update(StepResult(step=step, token_ids=pack([INVALID_TOKEN])))
    assert len(harness.life.kv.cache) == 0


@pytest.mark.parametrize(
    ("brought", "error"),
    [(STUCK_TOKEN, "constraint_error"), (BROKEN_TOKEN, "internal_error")],
)
def test_a_row_that_brings_an_error_ends_its_request(brought: int, error: str) -> None:
    """In the middle of its prompt too."""
    harness = Harness(limits_of(), depth=1)
    harness.submit(submit_of(0, list(range(20))))
    harness.dispatch()
    step = harness.plans.popleft().step
    ((_, outputs),) = harness.scheduler.update(StepResult(step=step, token_ids=pack([brought])))
    assert [one.error for one in outputs.finished] == [error]
    assert not harness.life.requests and harness.life.kv.pool.num_used == 0


def test_what_nobody_has_seen_a_token_of_is_not_reused() -> None:
    """Whether its numbers are sound is not known; what it found in the cache has been proven."""
    harness = Harness(limits_of(), depth=1)
    harness.submit(submit_of(0, PROMPT, max_tokens=1))
    harness.drain()
    proven = bytes(harness.life.kv.cache.findable)
    harness.submit(submit_of(1, [*PROMPT, *range(20)]))
    harness.turn()
    assert harness.life.kv.cache.findable != proven
    harness.abort(1)
    assert harness.life.kv.cache.findable == proven and any(proven)


def test_a_request_that_never_ran_takes_nothing_from_the_cache() -> None:
    harness = Harness(limits_of(max_num_seqs=1), depth=1)
    harness.submit(submit_of(0, PROMPT, max_tokens=9))
    harness.submit(submit_of(1, PROMPT))
    harness.turn()
    proven = bytes(harness.life.kv.cache.findable)
    harness.abort(1)
    assert harness.life.kv.cache.findable == proven and any(proven)


def test_a_result_that_nobody_waits_for_is_dropped() -> None:
    harness = Harness(limits_of())
    harness.submit(submit_of(0, PROMPT))
    harness.dispatch()
    assert harness.scheduler.update(StepResult(step=7, token_ids=pack([1]))) == []
    harness.drain()


def test_new_workers_with_a_smaller_cache_need_a_new_scheduler() -> None:
    harness = Harness(limits_of())
    with pytest.raises(RuntimeError, match="31 KV blocks where 32 were"):
        harness.scheduler.replay(31)


def test_prompt_logprobs_in_flight_of_a_preempted_request_arrive() -> None:
    """It ends with the very token that is in flight: nothing will be computed again."""
    harness = Harness(limits_of(max_num_seqs=1))
    harness.submit(submit_of(0, PROMPT, prompt_logprobs=0, max_tokens=1, priority=1))
    harness.dispatch()
    harness.submit(submit_of(1, [1]))
    harness.drain()
    assert harness.life.slots.num_vacant == 1
    assert harness.record(0).prompt_logprobs == PROMPT[1:]
    assert harness.record(0).token_ids == output_of(PROMPT)[0][:1]


def test_prompt_logprobs_are_sent_once_per_position() -> None:
    harness = Harness(limits_of(max_num_seqs=1, max_num_batched_tokens=4))
    harness.submit(submit_of(0, PROMPT, prompt_logprobs=0, priority=1))
    harness.turn()
    harness.submit(submit_of(1, [1]))
    harness.drain()
    assert [row.num_computed for plan in harness.history for row in plan.new_rows] == [0, 0, 0]
    assert harness.record(0).prompt_logprobs == PROMPT[1:]
