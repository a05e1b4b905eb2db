"""Which request was it? Steps that fail, and workers that die of a request."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sched_fake_worker import expected_output
from sched_harness import QUICK, VOCAB, Harness, limits_of, submit_of

FATAL = VOCAB - 1
HARMLESS = st.lists(st.integers(0, VOCAB - 2), min_size=1, max_size=12)


def harness_of(seats: int = 64, **changes: Any) -> Harness:
    """Room for all at once."""
    limits = limits_of(
        num_blocks=seats * 17, max_num_seqs=seats, max_num_batched_tokens=256, **changes
    )
    harness = Harness(limits)
    harness.fatal.add(FATAL)
    return harness


def innocent(prompt: list[int], max_tokens: int) -> bool:
    """Whether its own output keeps clear of the fatal token."""
    params = submit_of(0, prompt, max_tokens=max_tokens).sampling
    return FATAL not in expected_output(prompt, params, VOCAB, 64)[0][:-1]


@QUICK
@given(
    st.lists(st.tuples(HARMLESS, st.integers(1, 20)), max_size=20),
    st.lists(st.tuples(HARMLESS, st.integers(0, 12)), min_size=1, max_size=3),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_only_the_guilty_end(
    others: list[tuple[list[int], int]],
    guilty: list[tuple[list[int], int]],
    kills: bool,
    rng: Any,
) -> None:
    harness = harness_of(32)
    harness.failing_kills = kills
    prompts = [(prompt, tokens) for prompt, tokens in others if innocent(prompt, tokens)]
    bad = [([*prompt[:at], FATAL, *prompt[at:]], 5) for prompt, at in guilty]
    order = [*range(len(prompts) + len(bad))]
    rng.shuffle(order)
    for number in order:
        prompt, tokens = [*prompts, *bad][number]
        harness.submit(submit_of(number, prompt, max_tokens=tokens))
        for _ in range(rng.randrange(3)):
            harness.turn()
    harness.drain()
    for number, (prompt, tokens) in enumerate([*prompts, *bad]):
        record = harness.record(number)
        assert record.finished is not None
        if number < len(prompts):
            params = submit_of(0, prompt, max_tokens=tokens).sampling
            expected = expected_output(prompt, params, VOCAB, 64)
            assert (record.token_ids, record.finished.reason) == expected
        else:
            error = "request_quarantined" if kills else "out_of_memory"
            assert record.finished.error == error and not record.token_ids


@pytest.mark.parametrize("count", [1, 8, 64, 512])
def test_few_deaths_find_the_one(count: int) -> None:
    """Of them the supervisor bears five in a minute."""
    harness = harness_of(count)
    harness.failing_kills = True
    pairs = ([a, b] for a in range(VOCAB - 1) for b in range(VOCAB - 1))
    prompts = [pair for pair in pairs if innocent(pair, 20)][:count]
    prompts[count // 3] = [1, FATAL]
    for number, prompt in enumerate(prompts):
        harness.submit(submit_of(number, prompt, max_tokens=20))
    harness.drain()
    errors = [harness.record(number).finished for number in range(count)]
    assert [one for one in errors if one and one.error] == [errors[count // 3]]
    assert harness.num_deaths <= 5


def test_deaths_that_are_nobody_s_fault_end_nothing() -> None:
    harness = harness_of(32)
    harness.fatal.clear()
    for number in range(24):
        harness.submit(submit_of(number, [number, 1, 2], max_tokens=55))
    while harness.life.requests:
        for _ in range(40):
            harness.turn()
        if harness.num_deaths < 20:
            harness.lose_workers(late=False)
    harness.drain()
    assert all(one.finished and not one.finished.error for one in harness.records.values())


def test_a_batch_that_does_not_fit_is_split() -> None:
    """And grows again; nobody fails as long as each fits alone."""
    harness = harness_of(32)
    harness.fatal.clear()
    harness.longest_batch = harness.worker.longest_batch = 6
    for number in range(24):
        harness.submit(submit_of(number, [number, 1, 2], max_tokens=30))
    harness.drain()
    assert all(one.finished and not one.finished.error for one in harness.records.values())


def test_who_is_held_back_can_be_aborted() -> None:
    harness = harness_of(32)
    for number in range(9):
        harness.submit(
            submit_of(number, [number, FATAL] if number == 0 else [number], max_tokens=9)
        )
    harness.turn()
    assert len(harness.life.trials.held()) > 1
    harness.abort(*range(9))
    assert not harness.life.trials.held() and not harness.life.requests
    harness.submit(submit_of(20, [1, 2, 3]))
    harness.drain()
