"""How long the chunks of prompts are beside rows that decode."""

from __future__ import annotations

from sched_harness import Harness, limits_of, submit_of

from octavo.services.scheduler.limits import Limits
from octavo.services.scheduler.prefill_share import STEPS, prefill_share
from octavo.shared.messages import unpack


def test_a_small_backlog_gets_the_floor_and_a_large_one_an_eighth() -> None:
    assert prefill_share(0, 512) == 512
    assert prefill_share(512 * STEPS, 512) == 512
    assert prefill_share(8192 * STEPS, 512) == 8192
    assert prefill_share(100, 1) == 12


def test_a_burst_is_over_soon() -> None:
    left, steps = 65_536, 0
    while left > 0:
        left -= prefill_share(left, 512)
        steps += 1
    assert steps < 4 * STEPS


def limits(**changes: int | bool) -> Limits:
    sizes = {"num_blocks": 256, "max_model_len": 256, "max_num_batched_tokens": 64}
    return limits_of(**{**sizes, "prefill_beside_decode": 8, **changes})


def decoding(**changes: int | bool) -> Harness:
    """One row decodes, in slot 0, until told otherwise."""
    harness = Harness(limits(**changes), depth=1)
    harness.submit(submit_of(0, [5], max_tokens=200))
    harness.turn()
    return harness


def rows_of_next(harness: Harness) -> dict[int, int]:
    harness.turn()
    plan = harness.history[-1]
    return dict(zip(unpack(plan.slots).tolist(), unpack(plan.num_tokens).tolist(), strict=True))


def test_alone_a_prompt_gets_the_whole_budget() -> None:
    harness = Harness(limits(), depth=1)
    harness.submit(submit_of(0, [1] * 60))
    harness.submit(submit_of(1, [2] * 60))
    assert rows_of_next(harness) == {0: 60, 1: 4}


def test_beside_a_decode_it_gets_the_floor() -> None:
    harness = decoding()
    harness.submit(submit_of(1, [1] * 20))
    assert [rows_of_next(harness) for _ in range(4)] == [
        {0: 1, 1: 8},
        {0: 1, 1: 8},
        {0: 1, 1: 4},
        {0: 1, 1: 1},
    ]


def test_short_prompts_share_the_floor_in_order() -> None:
    harness = decoding()
    for number in (1, 2, 3):
        harness.submit(submit_of(number, [number] * 5))
    assert rows_of_next(harness) == {0: 1, 1: 5, 2: 3}
    assert rows_of_next(harness) == {0: 1, 1: 1, 2: 2, 3: 5}


def test_a_large_backlog_lengthens_the_chunks() -> None:
    harness = decoding()
    harness.submit(submit_of(1, [1] * 160))
    harness.submit(submit_of(2, [2] * 160))
    assert rows_of_next(harness) == {0: 1, 1: 320 // STEPS}
    assert rows_of_next(harness) == {0: 1, 1: 280 // STEPS}
    harness.abort(2)
    assert rows_of_next(harness) == {0: 1, 1: (160 - 75) // STEPS}
    harness.drain()


def test_the_backlog_of_many_fills_the_budget_and_no_more() -> None:
    harness = decoding()
    for number in range(1, 9):
        harness.submit(submit_of(number, [number] * 200))
    assert rows_of_next(harness) == {0: 1, 1: 63}


def test_cached_beginnings_are_no_backlog_once_admitted() -> None:
    harness = decoding(prefill_beside_decode=1)
    prompt = list(range(40)) + [1] * 9
    harness.submit(submit_of(1, prompt, max_tokens=1))
    for _ in range(60):
        harness.turn()
    harness.submit(submit_of(2, [*prompt[:40], *[7] * 20], max_tokens=1))
    assert rows_of_next(harness) == {0: 1, 1: 60 // STEPS}
    assert harness.backlog() == 60 - 40 - 60 // STEPS
    assert rows_of_next(harness) == {0: 1, 1: 1}


def test_what_a_preempted_request_computes_again_is_a_prompt() -> None:
    harness = decoding(max_num_seqs=1, prefix_caching=False)
    for _ in range(30):
        harness.turn()
    harness.submit(submit_of(1, [3] * 4, max_tokens=1, priority=-1))
    assert rows_of_next(harness) == {0: 4}
    assert harness.backlog() > 30
    assert rows_of_next(harness) == {0: 32}


def test_a_prompt_that_makes_way_gives_its_share_back() -> None:
    harness = decoding(max_num_seqs=2)
    harness.submit(submit_of(1, [1] * 12, priority=5))
    assert rows_of_next(harness) == {0: 1, 1: 8}
    harness.submit(submit_of(2, [2] * 20, priority=-1))
    assert rows_of_next(harness) == {0: 1, 1: 8}
    assert harness.record(1).finished is None and len(harness.life.waiting) == 1
    harness.drain()
