"""The reference itself: against torch's own attention, published vectors and plain formulas."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from kernel_batches import Case, Inputs, build

from octavo.kernels import ops, paged_attention, reference
from octavo.kernels.reference_sampling import uniforms


def _tokens(inputs: Inputs, cache: torch.Tensor, row: int) -> torch.Tensor:
    """[Hkv, L, D] of one row's sequence."""
    length, block_size = int(inputs.batch.seq_lens[row]), cache.shape[2]
    blocks = inputs.batch.block_tables[inputs.batch.slots[row], : -(-length // block_size)].long()
    return cache[blocks].transpose(1, 2).flatten(0, 1)[:length].transpose(0, 1)


def _plain(inputs: Inputs, row: int, window: int) -> torch.Tensor:
    """[Hq, m, D] by torch's own attention."""
    starts = inputs.batch.query_start
    q = inputs.q[starts[row] : starts[row + 1]].transpose(0, 1)
    length = int(inputs.batch.seq_lens[row])
    query = torch.arange(length - q.shape[1], length)[:, None]
    key = torch.arange(length)[None]
    seen = (key <= query) & (key > query - (window or length))
    keys, values = (_tokens(inputs, cache, row) for cache in (inputs.k_cache, inputs.v_cache))
    return torch.nn.functional.scaled_dot_product_attention(
        q[None], keys[None], values[None], attn_mask=seen, scale=0.1, enable_gqa=True
    )[0]


@pytest.mark.parametrize("window", [0, 1, 33])
def test_attention_is_torchs(window: int) -> None:
    case = Case([1, 1, 600, 3, 4], [700, 5, 650, 3, 90], heads=6, dim=40, dtype=torch.float64)
    inputs = build(case)
    ours = reference.paged_attention(
        inputs.q, inputs.k_cache, inputs.v_cache, inputs.batch, 0.1, window
    )
    starts = inputs.batch.query_start
    for row in range(len(case.lengths)):
        got = ours[starts[row] : starts[row + 1]].transpose(0, 1)
        torch.testing.assert_close(got, _plain(inputs, row, window), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("family", [reference, paged_attention])
@pytest.mark.parametrize("queries", [[1, 1], [1, 20]])
def test_pages_that_left_the_window_may_hold_anything(
    family: ModuleType, queries: list[int]
) -> None:
    window, case = 24, Case(queries, [200, 90])
    inputs = build(case, "cuda" if torch.cuda.is_available() else "cpu")
    clean = reference.paged_attention(
        inputs.q, inputs.k_cache, inputs.v_cache, inputs.batch, 0.1, window
    )
    for row, (count, length) in enumerate(zip(queries, case.lengths, strict=True)):
        left = (length - count - window + 1) // case.block_size
        blocks = inputs.batch.block_tables[inputs.batch.slots[row], :left].long()
        assert left > 0
        for cache in (inputs.k_cache, inputs.v_cache):
            cache[blocks] = float("nan")
    after = family.paged_attention(
        inputs.q, inputs.k_cache, inputs.v_cache, inputs.batch, 0.1, window
    )
    torch.testing.assert_close(after, clean, rtol=1e-4, atol=1e-5)


def test_soft_cap_bounds_the_scores() -> None:
    """Two keys of very unequal scores, capped at 1: weights of e and 1/e."""
    batch = build(Case([1], [2], heads=1, kv_heads=1, dim=16))
    batch.q.fill_(100.0)
    block = int(batch.batch.block_tables[batch.batch.slots[0], 0])
    batch.k_cache[block, 0, 0], batch.k_cache[block, 0, 1] = 1.0, -1.0
    batch.v_cache[block, 0, 0], batch.v_cache[block, 0, 1] = 1.0, 0.0
    out = reference.paged_attention(batch.q, batch.k_cache, batch.v_cache, batch.batch, 1.0, 0, 1.0)
    expected = torch.tensor([1.0, -1.0]).softmax(0)[0]
    torch.testing.assert_close(out, expected.expand_as(out))


def test_uniforms_are_philox() -> None:
    """The first words of Random123's known answers for key 0 and counters (0, 0, 0, 0)."""
    zero = torch.zeros(1, dtype=torch.int64)
    first = uniforms(zero, zero.int(), torch.arange(4)[None, :])[0]
    assert float(first[0]) == ((0x6627E8D5 >> 9) + 0.5) / 2**23
    assert len(set(first.tolist())) == 4


def test_uniforms_fill_the_open_interval_evenly() -> None:
    index = torch.arange(100_000)[None, :]
    drawn = uniforms(torch.tensor([5]), torch.tensor([3], dtype=torch.int32), index)[0]
    assert float(drawn.min()) > 0.0
    assert float(drawn.max()) < 1.0
    observed = torch.histc(drawn, 10, 0.0, 1.0)
    # Chi-square of 9 degrees of freedom: 27.9 is its 0.999 quantile.
    assert float(((observed - 10_000) ** 2 / 10_000).sum()) < 27.9


def test_rotation_is_a_turn_of_pairs() -> None:
    """A head of 4, half of it rotated by 90 degrees: (a, b) -> (-b, a), the rest as it was."""
    q = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    k, v = q.clone(), 10 * q
    caches = torch.zeros(2, 2, 1, 16, 4)
    position, slot = torch.tensor([1], dtype=torch.int32), torch.tensor([17])
    table = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    ops.rotary_and_kv_write(q, k, v, position, table, slot, caches[0], caches[1])
    assert q.flatten().tolist() == [-2.0, 1.0, 3.0, 4.0]
    assert caches[0, 1, 0, 1].tolist() == [-2.0, 1.0, 3.0, 4.0]
    assert caches[1, 1, 0, 1].tolist() == [10.0, 20.0, 30.0, 40.0]
    assert int(caches.count_nonzero()) == 8


def test_token_logprobs_give_the_id_first_then_the_best() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0]])
    ids, logprobs, ranks = ops.token_logprobs(logits, torch.tensor([2], dtype=torch.int32), 2)
    assert ids.tolist() == [[2, 1, 3]] and ranks.tolist() == [3]
    assert ids.dtype == ranks.dtype == torch.int32
    torch.testing.assert_close(logprobs[0], logits.log_softmax(-1)[0, [2, 1, 3]])
