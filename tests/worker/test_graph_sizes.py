"""Which steps get CUDA graphs, and how much of them is padding."""

from __future__ import annotations

from itertools import pairwise

from octavo.services.worker.cuda_graphs import MAX_MIXED_TOKENS, bucket_sizes, mixed_sizes


def test_mixed_sizes_fill_whole_tiles() -> None:
    sizes = mixed_sizes(8192)
    assert sizes[:6] == [16, 32, 64, 128, 192, 256]
    assert sizes[-2:] == [1920, MAX_MIXED_TOKENS]
    assert {448, 512, 640, 768} < set(sizes) and 576 not in sizes
    assert all(size % 128 == 0 for size in sizes if size > 512)


def test_padding_of_a_mixed_step_is_less_than_a_step_between_sizes() -> None:
    for before, after in pairwise(mixed_sizes(8192)):
        assert after - before <= (16 if after <= 32 else 64 if after <= 512 else 128)


def test_no_mixed_size_is_above_the_step_s_budget() -> None:
    assert mixed_sizes(15) == []
    assert mixed_sizes(200) == [16, 32, 64, 128, 192]
    assert mixed_sizes(640)[-1] == 640


def test_the_last_decode_size_is_all_rows() -> None:
    assert bucket_sizes(1) == [1]
    assert bucket_sizes(300)[-3:] == [256, 288, 300]
    assert bucket_sizes(512) == sorted(set(bucket_sizes(512)))
