"""Sampling without a sort and without a wait: checks and launches.

The filters' threshold is found by one program a row; the winner (Gumbel-max) by several programs
a row, over parts of the vocabulary, and one more that picks among the parts.
"""

from __future__ import annotations

import torch
import triton

from octavo.kernels.sampling_tiles import best_kernel, pick_kernel, threshold_kernel

PART = 2048
SEARCH_TILE = 8192
COLUMNS = {
    "temperature": torch.float32,
    "top_k": torch.int32,
    "top_p": torch.float32,
    "min_p": torch.float32,
    "seeds": torch.int64,
    "positions": torch.int32,
}


def sample(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    seeds: torch.Tensor,
    positions: torch.Tensor,
    *,
    random: bool,
    filtered: bool,
) -> torch.Tensor:
    """logits [n, V] of any float dtype -> int32[n]: one id a row.

    Per row: temperature, top_p, min_p float32[n]; top_k, positions int32[n]; seeds int64[n].
    A row of temperature 0 takes its most likely id (the lowest of equals). Others take the
    Gumbel-max of their tempered and filtered logits; the noise of an id depends on (seed,
    position, id) only and is that of `reference_sampling.uniforms`. Filters in vLLM's order:
    min_p, top_k (0: off), top_p on what is left; ties at a threshold stay. `random` False: every
    row is greedy; `filtered` False: no row has a filter. A row with a NaN gives INVALID_TOKEN.
    Raises ValueError on shapes that do not fit.
    """
    if logits.dim() != 2 or logits.stride(1) != 1 or logits.shape[1] == 0:
        raise ValueError(f"logits {tuple(logits.shape)} must be [n, V] with contiguous rows.")
    num_rows, vocab = logits.shape
    columns = (temperature, top_k, top_p, min_p, seeds, positions)
    for (name, dtype), column in zip(COLUMNS.items(), columns, strict=True):
        if column.shape != (num_rows,) or column.dtype != dtype or not column.is_contiguous():
            raise ValueError(f"{name} must be {dtype}, one entry for each of {num_rows} rows.")
    ids = torch.empty(num_rows, dtype=torch.int32, device=logits.device)
    if num_rows == 0:
        return ids
    thresholds = ids
    if random and filtered:
        thresholds = _thresholds(logits, temperature, top_k, top_p, min_p)
    num_parts = triton.cdiv(vocab, PART)
    values = torch.empty((num_rows, num_parts), dtype=torch.float32, device=logits.device)
    winners = torch.empty((num_rows, num_parts), dtype=torch.int32, device=logits.device)
    best_kernel[(num_rows, num_parts)](
        values,
        winners,
        logits,
        temperature,
        thresholds,
        seeds,
        positions,
        logits.stride(0),
        vocab,
        PART=PART,
        RANDOM=random,
        FILTERED=random and filtered,
        num_warps=4,
    )
    parts_pad = triton.next_power_of_2(num_parts)
    pick_kernel[(num_rows,)](ids, values, winners, num_parts, PARTS_PAD=parts_pad, num_warps=1)
    return ids


def _thresholds(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
) -> torch.Tensor:
    """int32[n]: the bits of each row's smallest kept key (see `sampling_tiles`)."""
    num_rows, vocab = logits.shape
    keys = torch.empty(num_rows, dtype=torch.int32, device=logits.device)
    threshold_kernel[(num_rows,)](
        keys,
        logits,
        temperature,
        top_k,
        top_p,
        min_p,
        logits.stride(0),
        vocab,
        TILE=min(SEARCH_TILE, triton.next_power_of_2(vocab)),
        num_warps=16,
    )
    return keys
