"""How the static batches are made and counted."""

from __future__ import annotations

from bench.harness import Request
from bench.transformers_baseline import batches, padded, useful_rate

REQUESTS = [Request([5, 6, 7], 4), Request([8], 10), Request([9, 9], 1)]


def test_batches_in_order() -> None:
    assert list(batches(REQUESTS, 2)) == [REQUESTS[:2], REQUESTS[2:]]
    assert list(batches(REQUESTS, 8)) == [REQUESTS]


def test_padded_on_the_left() -> None:
    ids, mask = padded(REQUESTS)
    assert ids == [[5, 6, 7], [0, 0, 8], [0, 9, 9]]
    assert mask == [[1, 1, 1], [0, 0, 1], [0, 1, 1]]


def test_only_tokens_asked_for_count() -> None:
    assert useful_rate(REQUESTS, 3.0) == 5.0
