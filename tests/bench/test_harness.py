"""What offline measures rest on: the draws, and which messages count as decode steps."""

from __future__ import annotations

import argparse
import random

import pytest

from bench.harness import Arrival, bounds, draw_requests, other_ids, pure_steps, setting


def test_draws_nano_vllm_s_workload() -> None:
    requests = draw_requests(0, 256)
    assert sum(len(each.prompt) for each in requests) == 142_827
    assert sum(each.output_length for each in requests) == 133_966
    random.seed(0)
    length = random.randint(100, 1024)
    assert requests[0].prompt == [random.randint(0, 10000) for _ in range(length)]


def test_other_ids_keep_the_lengths() -> None:
    requests = draw_requests(3, 8, (4, 9), 50)
    others = other_ids(requests, 1, 50)
    assert [len(each.prompt) for each in others] == [len(each.prompt) for each in requests]
    assert [each.output_length for each in others] == [each.output_length for each in requests]
    assert [each.prompt for each in others] != [each.prompt for each in requests]
    assert other_ids(requests, 2, 50) != others == other_ids(requests, 1, 50)
    assert max(max(each.prompt) for each in others) <= 50


@pytest.mark.parametrize(
    ("tokens", "steps"),
    [
        ([2, 2, 2, 2], [3, 4]),
        ([1, 2, 2, 2, 1], [4]),
        ([2, 2, 1, 2, 2], []),
        ([], []),
    ],
)
def test_pure_steps(tokens: list[int], steps: list[int]) -> None:
    # The gap before arrival i is i + 1 seconds.
    times = [sum(range(2, i + 2)) for i in range(len(tokens))]
    arrivals = [Arrival(time, count) for time, count in zip(times, tokens, strict=True)]
    assert pure_steps(arrivals, 2) == steps


def test_bounds() -> None:
    assert bounds("512") == (512, 512)
    assert bounds("100:1024") == (100, 1024)


def test_setting() -> None:
    assert setting("max_num_seqs=512") == ("max_num_seqs", 512)
    assert setting("enable_prefix_caching=false") == ("enable_prefix_caching", False)
    assert setting("dtype=bfloat16") == ("dtype", "bfloat16")
    with pytest.raises(argparse.ArgumentTypeError):
        setting("dtype")
