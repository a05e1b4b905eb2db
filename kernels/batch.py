"""ForwardBatch: the device-side description of one step that attention and KV writes read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

MAX_RUN_ROWS = 64
"""Runs are for batches of up to so many rows."""


@dataclass(frozen=True)
class WorkLists:
    """Device buffers that `plan_attention` fills, as large as any step needs; empty where
    attention follows no plan."""

    shares: torch.Tensor
    """int32[S, 8], for rows with one query token."""
    tiles: torch.Tensor
    """int32[P, 4], for rows with more,"""
    num_tiles: torch.Tensor
    """int32[1]: and how many of them there are."""
    rows: torch.Tensor
    """int32[R, 4]: if they are few, the rows with one query token,"""
    runs: torch.Tensor
    """int32[programs + 1, 4]: and their tiles of all KV heads in equal runs."""
    kv_heads: int
    splits: int
    """Shares of one KV head that fill the device."""
    tile_tokens: int
    """Query tokens of a tile."""
    rows_of_item: int
    """Rows of a `PrefixWork` item."""
    only_tiles: bool = False
    """Rows with one query token have tiles too, and nothing else."""

    def needed(self, decodes: int, prefills: int, prefill_tokens: int) -> WorkLists:
        """The part that a batch of at most so many rows of either kind needs."""
        if self.only_tiles:
            room = (prefill_tokens + decodes) // self.tile_tokens + prefills + decodes
            return replace(
                self, shares=self.shares[:0], tiles=self.tiles[:room], rows=self.rows[:0]
            )
        shares = decodes + self.splits if decodes else 0
        tiles = prefill_tokens // self.tile_tokens + min(prefills, prefill_tokens // 2)
        rows = decodes if decodes <= MAX_RUN_ROWS else 0
        return replace(
            self, shares=self.shares[:shares], tiles=self.tiles[:tiles], rows=self.rows[:rows]
        )


@dataclass(frozen=True)
class PrefixWork:
    """Which rows of a decode batch begin with the same blocks, so that their queries can attend
    to those together. Made on the host, by `plan_prefixes`."""

    items: torch.Tensor
    """int32[I, 8]: (first of `members`, how many, a slot with the blocks, first tile, end tile,
    number of the share), in tiles of 64 positions; unused ones have 0 members."""
    members: torch.Tensor
    """int32[n]: rows, those of one item side by side."""
    tiles: torch.Tensor
    """int32[n]: tiles of each row that items cover; 0: none."""
    first: torch.Tensor
    """int32[n]: where each row's partial results of items begin,"""
    count: torch.Tensor
    """int32[n]: and how many there are."""
    room: int
    """Partial results that there may be in all."""


@dataclass(frozen=True)
class ForwardBatch:
    """A ragged batch of n rows and T tokens; row i owns tokens query_start[i]..query_start[i+1].

    All tensors live on the model's device. Under a CUDA graph they are static buffers padded to
    the graph's bucket: a padded row has seq_len 0 and no token (in a decode batch: one padded
    token); a padded token has slot_mapping -1 and position 0. Outputs of padded tokens are never
    read but must stay finite.
    """

    positions: torch.Tensor
    """int32[T]: position of each token in its sequence."""
    slot_mapping: torch.Tensor
    """int64[T]: block * block_size + offset where the token's K and V go; -1: nowhere."""
    block_tables: torch.Tensor
    """int32[max_slots, max_blocks]: indexed by slot, not by row."""
    slots: torch.Tensor
    """int32[n]: slot of each row."""
    query_start: torch.Tensor
    """int32[n + 1]: prefix sum of the rows' token counts."""
    seq_lens: torch.Tensor
    """int32[n]: tokens in the row's sequence once this step's are written."""
    work: WorkLists
    """What `plan_attention` made of the lengths."""
    padded: bool = False
    """Whether there are tokens of no row."""
    prefixes: PrefixWork | None = None
    """Of a decode batch, where rows share their beginnings."""
    sampled: torch.Tensor | None = None
    """int64[s]: tokens whose hidden states the model gives, in this order; None: of all. Padded
    ones name token 0."""
