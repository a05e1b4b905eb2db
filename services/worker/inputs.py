"""StepInputs: a resolved plan becomes a ForwardBatch on the device.

All per-slot device state lives here: block tables and last sampled ids. A step costs one staging
copy and one input-preparation kernel (plus one scatter when block tables grew).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from octavo.kernels import ops
from octavo.kernels.batch import ForwardBatch, PrefixWork, WorkLists
from octavo.kernels.prefix_plan import (
    ITEM_FIELDS,
    PrefixGroup,
    max_items,
    max_room,
    plan_prefixes,
)
from octavo.services.worker.batch_shape import BatchShape
from octavo.services.worker.slots import Rows, SlotTable
from octavo.services.worker.staging import Column, Staging, to_device
from octavo.shared.messages import unpack
from octavo.shared.steps import StepPlan


class StepInputs:
    """Static device buffers, sized once for `max_slots` rows and `max_tokens` tokens."""

    def __init__(
        self,
        max_slots: int,
        max_tokens: int,
        max_blocks: int,
        block_size: int,
        work: WorkLists,
        device: torch.device,
    ) -> None:
        self.block_size = block_size
        self.work = work
        self.staging = Staging(_columns(max_slots, max_tokens, work), device)
        self.input_ids = torch.zeros(max_tokens, dtype=torch.int32, device=device)
        self.positions = torch.zeros(max_tokens, dtype=torch.int32, device=device)
        self.slot_mapping = torch.full((max_tokens,), -1, dtype=torch.int64, device=device)
        self.seq_lens = torch.zeros(max_slots, dtype=torch.int32, device=device)
        self.one_each = torch.arange(max_slots + 1, dtype=torch.int32, device=device)
        self.block_tables = torch.zeros(max_slots, max_blocks, dtype=torch.int32, device=device)
        self.last_token = torch.zeros(max_slots, dtype=torch.int32, device=device)

    def append_blocks(self, plan: StepPlan) -> None:
        """Write what the plan adds to block tables: tables of new rows, then single blocks."""
        width = self.block_tables.shape[1]
        tables = [(row.slot * width, unpack(row.block_ids)) for row in plan.new_rows]
        cells = [start + np.arange(len(blocks)) for start, blocks in tables]
        cells.append(unpack(plan.append_slots).astype(np.int64) * width + unpack(plan.append_index))
        blocks = np.concatenate([table for _, table in tables] + [unpack(plan.append_blocks)])
        if len(blocks):
            self._scatter(np.concatenate(cells), blocks)

    def _scatter(self, cells: npt.NDArray[np.int64], blocks: npt.NDArray[np.int32]) -> None:
        both = torch.from_numpy(np.stack([cells, blocks.astype(np.int64)]))
        both = to_device(both, self.block_tables.device)
        self.block_tables.view(-1).index_copy_(0, both[0], both[1].int())

    def stage(
        self, rows: Rows, table: SlotTable, shape: BatchShape, groups: Sequence[PrefixGroup] = ()
    ) -> ForwardBatch:
        """Copy the rows to the device and derive ids, positions, slot mapping, lengths and the
        work of attention there; all of it padded to `shape`. `groups` of rows share beginnings."""
        columns = self.staging.begin()
        n, k = rows.num_rows, len(rows.samples)
        columns["slots"][:n] = rows.slots
        columns["slots"][n : shape.rows] = 0
        columns["query_start"][: n + 1] = rows.query_start
        columns["query_start"][n + 1 : shape.rows + 1] = rows.total_tokens
        columns["num_computed"][rows.slots] = rows.computed
        columns["sample_index"][:k] = rows.query_start[1:][rows.samples] - 1
        if shape.narrows:
            columns["sample_index"][k : shape.outputs] = 0
        columns["sample_slots"][:k] = rows.sample_slots
        columns["noise_position"][:k] = rows.positions
        for name in SAMPLING_COLUMNS:
            columns[name][:k] = getattr(table, name)[rows.sample_slots]
        if shape.prefixes:
            self._stage_prefixes(columns, shape, groups)
        columns["host_ids"][: rows.total_tokens] = rows.host_ids
        self.staging.upload(rows.total_tokens)
        self._prepare(n, rows.total_tokens, shape)
        batch = self.batch(shape)
        self.plan(batch)
        return batch

    def _stage_prefixes(
        self, columns: dict[str, Any], shape: BatchShape, groups: Sequence[PrefixGroup]
    ) -> None:
        plan = plan_prefixes(groups, shape.rows, self.work.rows_of_item, self.work.splits)
        columns["prefix_items"][:] = 0
        columns["prefix_items"][: plan.items.size] = plan.items.ravel()
        columns["prefix_members"][: len(plan.members)] = plan.members
        columns["prefix_tiles"][: shape.rows] = plan.tiles
        columns["prefix_first"][: shape.rows] = plan.first
        columns["prefix_count"][: shape.rows] = plan.count

    def _prepare(self, n: int, total: int, shape: BatchShape) -> None:
        staged = self.staging.device
        ops.prepare_inputs(
            staged["host_ids"][:total],
            staged["query_start"][: n + 1],
            staged["slots"][:n],
            staged["num_computed"],
            self.last_token,
            self.block_tables,
            self.block_size,
            self.input_ids[: shape.tokens],
            self.positions[: shape.tokens],
            self.slot_mapping[: shape.tokens],
            self.seq_lens[: shape.rows],
        )

    def batch(self, shape: BatchShape) -> ForwardBatch:
        """The part of the static buffers that a batch of this shape fills."""
        query_start = self.one_each if shape.decode else self.staging.device["query_start"]
        return ForwardBatch(
            positions=self.positions[: shape.tokens],
            slot_mapping=self.slot_mapping[: shape.tokens],
            block_tables=self.block_tables,
            slots=self.staging.device["slots"][: shape.rows],
            query_start=query_start[: shape.rows + 1],
            seq_lens=self.seq_lens[: shape.rows],
            work=self.work.needed(shape.decodes, shape.prefills, shape.prefill_tokens),
            padded=shape.padded,
            prefixes=self._prefix_work(shape.rows) if shape.prefixes else None,
            sampled=self._sample_index(shape.outputs) if shape.narrows else None,
        )

    def _sample_index(self, count: int) -> torch.Tensor:
        return self.staging.device["sample_index"][:count]

    def of_samples(self, hidden: torch.Tensor, rows: Rows) -> torch.Tensor:
        """[k, H] of the staged rows' tokens that sample, out of hidden [>= T, H] of all."""
        k = len(rows.samples)
        if k == rows.total_tokens:
            return hidden[:k]
        return hidden.index_select(0, self._sample_index(k))

    def _prefix_work(self, rows: int) -> PrefixWork:
        staged, bounds = self.staging.device, (rows, self.work.rows_of_item, self.work.splits)
        return PrefixWork(
            items=staged["prefix_items"].view(-1, ITEM_FIELDS)[: max_items(*bounds)],
            members=staged["prefix_members"][:rows],
            tiles=staged["prefix_tiles"][:rows],
            first=staged["prefix_first"][:rows],
            count=staged["prefix_count"][:rows],
            room=max_room(*bounds),
        )

    def clear(self) -> None:
        """No rows, whatever a batch's shape has room for."""
        self.seq_lens.zero_()
        self.slot_mapping.fill_(-1)
        for name in (
            "query_start",
            "sample_index",
            "prefix_items",
            "prefix_tiles",
            "prefix_count",
        ):
            self.staging.device[name].zero_()

    def plan(self, batch: ForwardBatch) -> None:
        """Work out the attention of the lengths that are on the device."""
        tiles = None if batch.prefixes is None else batch.prefixes.tiles
        ops.plan_attention(batch.work, batch.query_start, batch.seq_lens, batch.slots, tiles)


SAMPLING_COLUMNS = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "seed",
    "presence",
    "frequency",
    "repetition",
)


def _columns(max_slots: int, max_tokens: int, work: WorkLists) -> dict[str, Column]:
    per_row = {
        "slots": torch.int32,
        "num_computed": torch.int32,
        "sample_index": torch.int64,
        "sample_slots": torch.int64,
        "noise_position": torch.int32,
        "temperature": torch.float32,
        "top_k": torch.int32,
        "top_p": torch.float32,
        "min_p": torch.float32,
        "seed": torch.int64,
        "presence": torch.float32,
        "frequency": torch.float32,
        "repetition": torch.float32,
        "prefix_members": torch.int32,
        "prefix_tiles": torch.int32,
        "prefix_first": torch.int32,
        "prefix_count": torch.int32,
    }
    columns = {name: Column(dtype, max_slots) for name, dtype in per_row.items()}
    columns["query_start"] = Column(torch.int32, max_slots + 1)
    items = max_items(max_slots, work.rows_of_item, work.splits)
    columns["prefix_items"] = Column(torch.int32, items * ITEM_FIELDS)
    columns["host_ids"] = Column(torch.int32, max_tokens)
    return columns
