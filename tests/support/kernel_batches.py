"""Random paged batches for attention tests: shuffled tables, and NaN in every page not owned."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.kernels.batch import ForwardBatch


@dataclass(frozen=True)
class Case:
    """A ragged batch: `queries[i]` new tokens of a sequence of `lengths[i]`."""

    queries: list[int]
    lengths: list[int]
    heads: int = 4
    kv_heads: int = 2
    dim: int = 64
    block_size: int = 16
    dtype: torch.dtype = torch.float32
    seed: int = 0


@dataclass(frozen=True)
class Inputs:
    q: torch.Tensor
    k_cache: torch.Tensor
    v_cache: torch.Tensor
    batch: ForwardBatch

    def to_float64(self) -> Inputs:
        return Inputs(self.q.double(), self.k_cache.double(), self.v_cache.double(), self.batch)


def build(case: Case, device: str = "cpu") -> Inputs:
    """Rows sit in shuffled slots; cells of a row's pages beyond its length are NaN as well."""
    generator = torch.Generator().manual_seed(case.seed)
    rows = len(case.queries)
    pages = [-(-length // case.block_size) for length in case.lengths]
    order = torch.randperm(sum(pages) + 3, generator=generator)
    slots = torch.randperm(rows + 2, generator=generator)[:rows]
    tables = torch.full((rows + 2, max([*pages, 1])), 10**6, dtype=torch.int32)
    shape = (len(order), case.kv_heads, case.block_size, case.dim)
    k_cache, v_cache = (torch.full(shape, float("nan")) for _ in range(2))
    used = 0
    for slot, count, length in zip(slots.tolist(), pages, case.lengths, strict=True):
        blocks = order[used : used + count]
        tables[slot, :count] = blocks.int()
        used += count
        for cache in (k_cache, v_cache):
            values = torch.randn(count * case.block_size, *shape[1::2], generator=generator)
            values[length:] = float("nan")
            cache[blocks] = values.view(count, case.block_size, *shape[1::2]).transpose(1, 2)
    starts = torch.tensor([0, *case.queries]).cumsum(0).int()
    packed = torch.randn(sum(case.queries), case.heads + 2, case.dim, generator=generator)
    batch = ForwardBatch(
        positions=torch.zeros(0, dtype=torch.int32, device=device),
        slot_mapping=torch.zeros(0, dtype=torch.int64, device=device),
        block_tables=tables.to(device),
        slots=slots.int().to(device),
        query_start=starts.to(device),
        seq_lens=torch.tensor(case.lengths, dtype=torch.int32, device=device),
        max_query_len=max(case.queries),
        max_seq_len=max(case.lengths),
    )
    q = packed.to(device, case.dtype)[:, : case.heads]
    return Inputs(q, k_cache.to(device, case.dtype), v_cache.to(device, case.dtype), batch)
