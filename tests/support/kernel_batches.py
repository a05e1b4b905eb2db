"""Random paged batches for attention tests: shuffled tables, and NaN in every page not owned."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.kernels.attention_plan import make_work_lists, plan_attention
from octavo.kernels.batch import ForwardBatch, WorkLists


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
        work=work_lists(case, device),
    )
    plan(batch)
    q = packed.to(device, case.dtype)[:, : case.heads]
    return Inputs(q, k_cache.to(device, case.dtype), v_cache.to(device, case.dtype), batch)


def work_lists(case: Case, device: str) -> WorkLists:
    """Lists full of nonsense, with as much room as the case needs."""
    work = make_work_lists(
        len(case.queries),
        sum(case.queries),
        case.heads,
        case.kv_heads,
        case.dim,
        case.dtype,
        torch.device(device),
    )
    work.shares.fill_(77)
    work.tiles.fill_(77)
    longer = [count for count in case.queries if count > 1]
    return work.needed(case.queries.count(1) and len(case.queries), len(longer), sum(longer))


def plan(batch: ForwardBatch) -> None:
    """Fill the batch's work lists from its lengths on the device."""
    plan_attention(batch.work, batch.query_start, batch.seq_lens, batch.slots)
