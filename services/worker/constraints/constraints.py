"""Constraints of a batch: masks worked out on the host while the device runs the forward pass.

The ids of a step are known to the device alone until somebody asks. So a step with constrained
rows sends its ids back by a copy of its own; the next one, whose forward pass is already enqueued
by then, waits for them, moves the matchers on and uploads masks. Where no row is constrained,
nothing is copied and nobody waits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from octavo.kernels import ops
from octavo.services.worker.constraints.constraint import Constraint, MatcherOf
from octavo.services.worker.constraints.patience import Patience
from octavo.services.worker.slots import Rows
from octavo.services.worker.staging import to_device
from octavo.shared.grammar.matcher import MaskBatch, mask_words
from octavo.shared.messages import unpack
from octavo.shared.steps import NewRow

MAX_THREADS = 8
OTHER_THREADS = 2
"""Cores left to this thread and to the one that sends results."""
ROWS_AT_FIRST = 16
Index = npt.NDArray[np.int64]
NO_ROWS: Index = np.zeros(0, np.int64)


@dataclass
class _Said:
    """Ids int32[n] of `constraints`, on their way to the host; `done` None: they are there."""

    constraints: list[Constraint]
    ids: torch.Tensor
    done: torch.cuda.Event | None


class Constraints:
    """By slot. `matcher_of` gives a matcher at its start, without waiting."""

    def __init__(
        self,
        max_slots: int,
        vocab_size: int,
        device: torch.device,
        matcher_of: MatcherOf,
        patience: Patience,
    ) -> None:
        self._vocab_size = vocab_size
        self._device = device
        self._matcher_of = matcher_of
        self._patience = patience
        self._of: list[Constraint | None] = [None] * max_slots
        self._active = np.zeros(max_slots, np.bool_)
        self._batch: MaskBatch | None = None
        self._buffer = torch.empty(0)
        self._said: list[_Said] = []
        self._uploaded: torch.cuda.Event | None = None

    def admit(self, row: NewRow) -> None:
        """A request takes a slot, perhaps with outputs from before."""
        params = row.sampling
        self._active[row.slot] = params.is_constrained
        self._of[row.slot] = None
        if params.is_constrained:
            min_len = row.prompt_len + params.min_tokens
            constraint = Constraint(params, self._vocab_size, min_len, self._matcher_of)
            constraint.replay(unpack(row.token_ids)[row.prompt_len :].tolist())
            self._of[row.slot] = constraint

    def apply(self, logits: torch.Tensor, rows: Rows) -> Index:
        """Mask the logits [k, V] of the rows that sample; returns those that can say nothing."""
        asked = np.flatnonzero(self._active[rows.sample_slots])
        if not len(asked):
            return NO_ROWS
        constraints = self._at(rows.sample_slots[asked])
        self._settle()
        masks, stuck = self._fill(constraints, rows.positions[asked], rows.num_rows > 1)
        where = to_device(torch.from_numpy(asked), self._device)
        ops.apply_bitmask(logits, where, self._upload(masks))
        return asked[stuck]

    def follow(self, ids: torch.Tensor, rows: Rows) -> None:
        """The rows have sampled ids int32[k]."""
        asked = np.flatnonzero(self._active[rows.sample_slots])
        if len(asked):
            constraints = self._at(rows.sample_slots[asked])
            chosen = ids[to_device(torch.from_numpy(asked), self._device)]
            self._said.append(self._send_back(constraints, chosen))

    def _at(self, slots: npt.NDArray[np.int32]) -> list[Constraint]:
        found = (self._of[slot] for slot in slots.tolist())
        return [constraint for constraint in found if constraint is not None]

    def _send_back(self, constraints: list[Constraint], ids: torch.Tensor) -> _Said:
        if not ids.is_cuda:
            return _Said(constraints, ids, None)
        host = torch.empty(ids.shape, dtype=ids.dtype, pin_memory=True)
        host.copy_(ids, non_blocking=True)
        return _Said(constraints, host, _recorded())

    def _settle(self) -> None:
        """Take in what was said since the last time."""
        for said in self._said:
            if said.done is not None:
                said.done.synchronize()
            self._accept(said.constraints, said.ids.tolist())
        self._said.clear()

    def _accept(self, constraints: Sequence[Constraint], ids: Sequence[int]) -> None:
        moves = []
        for constraint, token_id in zip(constraints, ids, strict=True):
            if token_id < 0:
                continue  # the request has failed
            with constraint.boundary():
                if (matcher := constraint.accept(token_id)) is not None:
                    moves.append((matcher, token_id))
        if moves:
            self._masks_of(len(moves)).accept(moves)

    def _fill(
        self, constraints: Sequence[Constraint], lengths: npt.NDArray[np.int32], beside: bool
    ) -> tuple[torch.Tensor, Index]:
        """Masks int32[n, words] in the host's buffer, and the rows that have nothing left.
        `beside`: others are in the step."""
        batch = self._masks_of(len(constraints))
        if self._uploaded is not None:
            self._uploaded.synchronize()
        masks = batch.masks[: len(constraints)]
        masks.fill(-1)
        counts = beside and self._patience.ends
        self._patience.fill(batch, constraints, self._forward_done() if counts else lambda: False)
        alive = [
            constraint.leaves_any(mask, int(length))
            for constraint, mask, length in zip(constraints, masks, lengths, strict=True)
        ]
        return self._buffer[: len(constraints)], np.flatnonzero(~np.array(alive))

    def _forward_done(self) -> Callable[[], bool]:
        """Whether the pass that is enqueued now has come to its end; on the CPU it has."""
        if self._device.type != "cuda":
            return lambda: True
        query: Callable[[], bool] = _recorded().query
        return query

    def _upload(self, masks: torch.Tensor) -> torch.Tensor:
        if self._device.type != "cuda":
            return masks
        copied = masks.to(self._device, non_blocking=True)
        self._uploaded = _recorded()
        return copied

    def _masks_of(self, count: int) -> MaskBatch:
        """Room for so many rows."""
        if self._batch is None or len(self._batch.masks) < count:
            room = max(ROWS_AT_FIRST, 2 * count)
            shape = (room, mask_words(self._vocab_size))
            pinned = self._device.type == "cuda"
            self._buffer = torch.empty(shape, dtype=torch.int32, pin_memory=pinned)
            threads = max(1, min(MAX_THREADS, (os.cpu_count() or 1) - OTHER_THREADS))
            self._batch = MaskBatch(room, self._vocab_size, threads, self._buffer.numpy())
        return self._batch


def _recorded() -> torch.cuda.Event:
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return event
