"""Properties of the whole scheduler, with any load, against a worker that checks its pages."""

from __future__ import annotations

import random
import time
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from sched_fake_worker import expected_output
from sched_harness import QUICK, VOCAB, Harness, limits_of, submit_of

from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.messages import Submit, unpack

PREFIX = [random.Random(1).randrange(VOCAB) for _ in range(40)]

GRAMMARS = [GrammarSpec("regex", letter) for letter in "abcd"]
LIMITS = st.fixed_dictionaries(
    {
        "num_blocks": st.integers(8, 40),
        "block_size": st.sampled_from([1, 2, 4, 8]),
        "max_num_seqs": st.integers(1, 6),
        "max_num_batched_tokens": st.sampled_from([1, 3, 7, 16, 64]),
        "prefill_beside_decode": st.sampled_from([1, 2, 5, 64]),
        "prefix_caching": st.booleans(),
    }
)
REQUESTS = st.lists(
    st.fixed_dictionaries(
        {
            "shared": st.integers(0, 30),
            "own": st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=8),
            "max_tokens": st.integers(1, 30),
            "min_tokens": st.integers(0, 3),
            "stop_token_ids": st.lists(st.integers(0, VOCAB - 1), max_size=4),
            "priority": st.integers(0, 2),
            "logprobs": st.sampled_from([None, 0]),
            "prompt_logprobs": st.sampled_from([None, None, 0]),
            "cache_salt": st.sampled_from(["", "tenant"]),
            "tenant": st.sampled_from(["", "", "a", "b"]),
            "grammar": st.sampled_from([None, None, None, *GRAMMARS]),
        }
    ),
    min_size=1,
    max_size=14,
)


def submits(specs: list[dict[str, Any]]) -> list[Submit]:
    made = []
    for number, spec in enumerate(specs):
        fields = dict(spec)
        prompt = PREFIX[: fields.pop("shared")] + fields.pop("own")
        fields["min_tokens"] = min(fields["min_tokens"], fields["max_tokens"])
        if fields.get("grammar") is not None:
            fields["min_tokens"] = 0  # the worker's affair then
        made.append(submit_of(number, prompt, **fields))
    return made


def check_outputs(harness: Harness, requests: list[Submit]) -> None:
    """Whole for requests that ended well; a prefix for those that were aborted or too long."""
    for submit in requests:
        record = harness.records[submit.request_id]
        prompt = unpack(submit.prompt_ids).tolist()
        limit = harness.limits.max_model_len
        ids, reason = expected_output(prompt, submit.sampling, VOCAB, limit)
        assert record.finished is not None
        if record.finished.reason in ("stop", "length"):
            assert (record.token_ids, record.finished.reason) == (ids, reason)
            if submit.sampling.prompt_logprobs is not None:
                assert record.prompt_logprobs == prompt[1:]
            assert record.finished.stop_id == (ids[-1] if reason == "stop" else None)
        else:
            assert record.token_ids == ids[: len(record.token_ids)]


@QUICK
@given(LIMITS, REQUESTS, st.sampled_from([1, 2]), st.randoms(use_true_random=False))
@example(
    {"num_blocks": 8, "block_size": 1},
    [{"shared": 0, "own": [1], "max_tokens": 30, "min_tokens": 0, "stop_token_ids": []}],
    2,
    random.Random(0),
)
def test_any_load_with_aborts_at_any_time(
    changes: dict[str, Any], specs: list[dict[str, Any]], depth: int, rng: random.Random
) -> None:
    harness = Harness(limits_of(**changes), depth)
    requests = submits(specs)
    queue = list(requests)
    aborted = set()
    while queue:
        match rng.randrange(9):
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
            case 8:
                harness.compile()
            case _:
                harness.complete()
    harness.drain()
    check_outputs(harness, requests)
    for number, submit in enumerate(requests):
        finished = harness.records[submit.request_id].finished
        assert finished is not None
        assert number in aborted or finished.reason != "abort"
        too_long = finished.error == "too_long"
        blocks = harness.limits.blocks_for(len(submit.prompt_ids) // 4 + 29)
        assert finished.reason != "error" or (too_long and blocks > harness.limits.num_blocks)


@QUICK
@given(
    LIMITS, REQUESTS, st.sampled_from([1, 2]), st.integers(0, 40), st.randoms(use_true_random=False)
)
def test_no_token_is_lost_or_repeated_by_deaths(
    changes: dict[str, Any],
    specs: list[dict[str, Any]],
    depth: int,
    rarity: int,
    rng: random.Random,
) -> None:
    """Whenever workers or scheduler are replaced, and whatever the dead still say.

    So many deaths would end somebody, by mistake: what is looked for here is not in the trials.
    """
    block_size = changes["block_size"]
    harness = Harness(limits_of(**(changes | {"num_blocks": 64 // block_size + 8})), depth)
    harness.trials = False
    requests = submits(specs)
    for submit in requests:
        harness.submit(submit)
        harness.compile()
    deaths = 0
    while harness.life.requests:
        if deaths < 20 and rng.randrange(rarity + 2) == 0:
            deaths += 1
            rng.choice([harness.lose_workers, harness.lose_scheduler])(rng.random() < 0.5)
        if not (harness.turn() if rng.random() < 0.7 else harness.dispatch()):
            harness.compile()
            harness.complete()
    harness.drain()
    check_outputs(harness, requests)
    for submit in requests:
        finished = harness.records[submit.request_id].finished
        assert finished is not None and finished.reason in ("stop", "length")


@QUICK
@given(REQUESTS, LIMITS, LIMITS, st.permutations(range(14)))
def test_output_depends_on_nothing_but_the_request(
    specs: list[dict[str, Any]], one: dict[str, Any], other: dict[str, Any], order: list[int]
) -> None:
    """Not on arrival order, chunk size, slots, blocks, preemption, prefix hits or overlap."""
    requests = submits(specs)
    outputs = []
    for changes, depth, shuffled in ((one, 1, False), (other, 2, True)):
        limits = limits_of(**(changes | {"num_blocks": 64 // changes["block_size"] + 8}))
        harness = Harness(limits, depth)
        ranks = (
            [rank for rank in order if rank < len(requests)] if shuffled else range(len(requests))
        )
        for rank in ranks:
            harness.submit(requests[rank])
        harness.drain()
        check_outputs(harness, requests)
        outputs.append([harness.records[one.request_id].token_ids for one in requests])
    assert outputs[0] == outputs[1]


@QUICK
@given(
    floor=st.integers(1, 9),
    budget=st.integers(6, 40),
    depth=st.sampled_from([1, 2]),
    decoding=st.integers(1, 4),
    prompts=st.lists(st.integers(1, 30), min_size=1, max_size=5),
)
def test_prompts_advance_in_every_step_beside_decodes(
    floor: int, budget: int, depth: int, decoding: int, prompts: list[int]
) -> None:
    """However small their share; and every row that decodes gets its token."""
    limits = limits_of(
        num_blocks=192, max_model_len=256, max_num_seqs=5, prefix_caching=False,
        max_num_batched_tokens=budget, prefill_beside_decode=floor,
    )  # fmt: skip
    harness = Harness(limits, depth)
    for number in range(decoding):
        harness.submit(submit_of(number, [number], max_tokens=175))
    harness.turn()
    for number, length in enumerate(prompts, start=decoding):
        harness.submit(submit_of(number, [number] * length, max_tokens=1))
    # A slot is given back, and taken by the next prompt, up to three plans after its last token.
    patience = sum(-(-length // min(floor, budget - 4)) + 3 for length in prompts)
    for _ in range(patience):
        harness.turn()
        rows = unpack(harness.history[-1].slots).tolist()
        assert set(range(decoding)) <= set(rows)
    ended = [harness.record(number).finished for number in range(decoding, decoding + len(prompts))]
    assert all(ended)
    harness.abort(*range(decoding))
    harness.drain()


def test_two_thousand_requests_in_seconds() -> None:
    rng = random.Random(5)
    limits = limits_of(
        num_blocks=600, block_size=8, max_model_len=256, max_num_seqs=48, max_num_batched_tokens=256
    )
    harness = Harness(limits)
    harness.check = lambda: None  # type: ignore[method-assign]
    prefixes = [[rng.randrange(VOCAB) for _ in range(40)] for _ in range(8)]
    requests = [
        submit_of(
            number,
            [*rng.choice(prefixes)[: rng.randrange(41)], rng.randrange(VOCAB)],
            max_tokens=rng.randrange(1, 24),
            stop_token_ids=[3],
        )
        for number in range(2000)
    ]
    began = time.process_time()
    for submit in requests:
        harness.submit(submit)
    harness.drain()
    assert time.process_time() - began < 30
    check_outputs(harness, requests)
    cached = sum(record.cached_tokens or 0 for record in harness.records.values())
    assert cached > 15_000
