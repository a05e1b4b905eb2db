"""Which request was it? Steps that fail, and workers that die of a request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sched_fake_worker import expected_output
from sched_harness import QUICK, VOCAB, Harness, limits_of, submit_of

from octavo.services.scheduler.trials import SUSPECT_AFTER

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
    assert harness.num_deaths <= 4 * len(bad) * kills
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


def prompts_of(count: int, bad: Iterable[int]) -> list[list[int]]:
    """Different ones, of which those at `bad` kill."""
    pairs = ([a, b] for a in range(VOCAB - 1) for b in range(VOCAB - 1))
    prompts = [pair for pair in pairs if innocent(pair, 20)][:count]
    for index in bad:
        prompts[index] = [index % (VOCAB - 1), FATAL]
    return prompts


@pytest.mark.parametrize(
    ("count", "bad", "deaths"),
    [
        (1, [0], 2),
        (8, [2], 3),
        (64, [20], 4),
        (512, [170], 5),
        (3, [0, 1, 2], 5),
        (64, [3, 40], 6),
        (64, [0, 1, 2], 6),
        (64, [3, 20, 40], 8),
        (128, [3, 40, 70, 110], 14),
    ],
)
@pytest.mark.parametrize("lost", [False, True])
def test_few_deaths_find_them(count: int, bad: list[int], deaths: int, lost: bool) -> None:
    """The first two, and with each group that holds one of them one. Even if no result comes of
    the step before, which was of another group."""
    harness = harness_of(count)
    harness.failing_kills, harness.results_get_lost = True, lost
    for number, prompt in enumerate(prompts_of(count, bad)):
        harness.submit(submit_of(number, prompt, max_tokens=20))
    harness.drain()
    errors = {number: harness.record(number).finished for number in range(count)}
    assert [number for number, one in errors.items() if one and one.error] == bad
    assert harness.num_deaths == deaths


def test_who_is_convicted_is_not_let_in_again() -> None:
    """Whatever its seed, by which SDKs' retries differ; for ten minutes."""
    harness = harness_of(16)
    harness.failing_kills = True
    for number, seed in ((0, 1), (1, 2)):
        harness.submit(submit_of(number, [1, FATAL], max_tokens=20, seed=seed))
        harness.drain()
        end = harness.record(number).finished
        assert end and end.error == "request_quarantined"
        assert harness.num_deaths == 2
    harness.submit(submit_of(2, [1, FATAL], max_tokens=1))
    harness.fatal.clear()
    harness.now += 601
    harness.submit(submit_of(3, [1, FATAL], max_tokens=20))
    harness.drain()
    ends = [harness.record(number).finished for number in (2, 3)]
    assert [end and end.error for end in ends] == [None, None]


@pytest.mark.parametrize(
    ("count", "bad", "deaths"),
    [(1, [0], 3), (8, [2], 3), (64, [20], 4), (200, [170], 5), (64, [3, 40], 6)],
)
def test_who_kills_the_scheduler_is_found(count: int, bad: list[int], deaths: int) -> None:
    """It is known by what frontends and the supervisor say to the next one."""
    harness = harness_of(count)
    harness.fatal.clear()
    harness.deadly.add(FATAL)
    for number, prompt in enumerate(prompts_of(count, bad)):
        harness.submit(submit_of(number, prompt, max_tokens=20))
    harness.drain()
    errors = [number for number in range(count) if harness.record(number).finished.error]  # type: ignore[union-attr]
    assert errors == bad
    assert all(harness.record(number).finished.error == "request_quarantined" for number in bad)  # type: ignore[union-attr]
    assert harness.num_deaths == deaths


def test_schedulers_that_die_of_nothing_convict_nobody() -> None:
    """As long as there is a little progress between, or they are not alone on trial."""
    harness = harness_of(32)
    harness.fatal.clear()
    for number in range(24):
        harness.submit(submit_of(number, [number, 1, 2], max_tokens=40))
    for turns in (20, 3, 0, 0, 6, 0, 0, 20):
        for _ in range(turns):
            harness.turn()
        harness.lose_scheduler(late=True)
    harness.drain()
    assert all(one.finished and not one.finished.error for one in harness.records.values())


def test_the_convicted_s_twins_end_with_it() -> None:
    """Sixteen choices of a prompt that kills are not tried one by one."""
    harness = harness_of(32)
    harness.failing_kills = True
    for number in range(16):
        harness.submit(submit_of(number, [1, FATAL], max_tokens=20, seed=number))
    harness.submit(submit_of(16, [3, 4], max_tokens=20))
    harness.drain()
    ends = [one.finished and one.finished.error for one in harness.records.values()]
    assert ends == ["request_quarantined"] * 16 + [None]
    assert harness.num_deaths <= 4


def test_one_long_stream_alone_is_not_convicted_of_deaths_it_survived() -> None:
    harness = harness_of(4)
    harness.fatal.clear()
    harness.submit(submit_of(0, [1, 2], max_tokens=60))
    while harness.life.requests:
        for _ in range(4):
            harness.turn()
        if harness.life.requests:
            harness.lose_workers(late=False)
    end = harness.record(0).finished
    assert end and not end.error and harness.num_deaths >= 10


def test_what_the_supervisor_is_told() -> None:
    """Who runs on trial, before; and what came of it."""
    harness = harness_of(64)
    harness.failing_kills = True
    told: list[tuple[int, int]] = []
    harness.life.on_trial = lambda trial: told.append((trial.num_acquitted, len(trial.accused)))
    for number, prompt in enumerate(prompts_of(64, [12])):
        harness.submit(submit_of(number, prompt, max_tokens=20))
    harness.drain()
    both = [(0, 64), (0, 0)]  # a death, and one
    groups = [(0, 8), (8, 0), (0, 8), (0, 0)]  # the first of eight; then one that dies
    singles = [(0, 1), (1, 0)] * 4 + [(0, 1), (0, 0)] + [(0, 1), (1, 0)] * 3
    rest = [(0, 8), (8, 0)] * 6 + [(0, 0)]
    assert told == both + groups + singles + rest


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


def test_a_trial_begins_though_somebody_runs() -> None:
    """Who runs makes way, so that what goes wrong is the suspect's."""
    harness = harness_of(8)
    beside, suspect = prompts_of(2, [])
    harness.submit(submit_of(0, beside, max_tokens=20))
    harness.turn()
    harness.submit(replace(submit_of(1, suspect, max_tokens=20), survived=SUSPECT_AFTER))
    while not harness.record(1).token_ids:
        assert harness.turn()
        assert not harness.life.trials.on_trial or len(harness.life.running) <= 1
    assert not harness.record(0).finished
    harness.drain()
    assert [len(harness.record(number).token_ids) for number in range(2)] == [20, 20]
