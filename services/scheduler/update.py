"""Updater: what a step's result does to the requests of its plan."""

from __future__ import annotations

import numpy as np

from octavo.services.scheduler.lifecycle import Lifecycle
from octavo.services.scheduler.outbox import Emission, select_logprobs
from octavo.services.scheduler.request import NO_SLOT, Request
from octavo.services.scheduler.slots import Longs
from octavo.services.scheduler.step import Flight
from octavo.shared.messages import (
    Begun,
    FinishReason,
    Ints,
    PooledOutput,
    PromptLogprobsOutput,
    Started,
    unpack,
)
from octavo.shared.steps import (
    BROKEN_TOKEN,
    INVALID_TOKEN,
    NO_TOKEN,
    STUCK_TOKEN,
    PooledRow,
    PromptLogprobs,
    StepResult,
)

End = tuple[Request, FinishReason, int | None]
ERRORS = {
    INVALID_TOKEN: "numerical_error",
    STUCK_TOKEN: "constraint_error",
    BROKEN_TOKEN: "internal_error",
}


class Updater:
    def __init__(self, life: Lifecycle) -> None:
        self._life = life

    def apply(self, flight: Flight, result: StepResult) -> None:
        """Append ids, note ends, file the outputs."""
        token_ids = unpack(result.token_ids)
        rows, slots, ids = _sampled(flight, token_ids)
        emission, ends = self._append(rows, slots, ids)
        if flight.vacated:
            late, late_ends = self._append_departed(flight, token_ids)
            emission, ends = _merge(emission, late), ends + late_ends
        self._life.outbox.emit(emission, result)
        for values in result.prompt_logprobs:
            self._route_prompt_logprobs(flight, values)
        for row in result.pooled:
            self._finish_pooled(flight, row)
        for request, reason, stop_id in ends:
            with self._life.boundary(request):
                self._life.finish(request, reason, stop_id)
        if len(rows) < len(token_ids):
            self._fail_invalid(flight, token_ids)

    def _append(self, rows: Longs, slots: Longs, token_ids: Ints) -> tuple[Emission, list[End]]:
        """The rows whose requests still have their slots: no loop but over starts and ends."""
        life, table = self._life, self._life.slots
        now = life.clock()
        lengths = table.append(slots, token_ids)
        first = (lengths == table.first_len[slots]).nonzero()[0]
        intervals = now - table.token_time[slots]
        table.token_time[slots] = now
        if len(first):
            intervals = np.delete(intervals, first)
            for request in [life.running[slot] for slot in slots[first].tolist()]:
                with life.boundary(request):
                    self._start(request, now)
        life.metrics.on_tokens(table.tenant[slots], intervals)
        ends = []
        for index in table.may_end(slots, lengths, token_ids).tolist():
            if (one := life.running.get(int(slots[index]))) is not None:  # its start went well
                ends += _end_of(one, int(token_ids[index]), int(lengths[index]))
        return Emission(rows, table.peer[slots], table.request_ids[slots], token_ids), ends

    def _append_departed(self, flight: Flight, ids: Ints) -> tuple[Emission, list[End]]:
        """Rows whose requests left their slots: an id in flight still belongs to a waiting one."""
        life, ends, rows = self._life, [], []
        now, intervals = life.clock(), []
        departed = [(row, request) for row, request in flight.departed() if ids[row] >= 0]
        departed = [(row, request) for row, request in departed if not request.over]
        for row, request in departed:
            request.pending -= 1
            life.waiting.extend(request, ids[row])
            life.backlog.note(request)
            if request.num_outputs == 1:
                with life.boundary(request):
                    self._start(request, now)
            else:
                intervals.append(now - request.token_time)
            request.token_time = now
            rows.append(row)
            ends += _end_of(request, int(ids[row]), len(request.token_ids))
        tenants = np.array([request.tenant for _, request in departed], np.int64)
        life.metrics.on_tokens(tenants, np.asarray(intervals))
        peers = [life.outbox.peer_number(request.peer) for _, request in departed]
        names = b"".join(request.request_id for _, request in departed)
        request_ids = np.frombuffer(names, life.slots.request_ids.dtype)
        index = np.asarray(rows, np.int64)
        return Emission(index, np.asarray(peers, np.int64), request_ids, ids[index]), ends

    def _start(self, request: Request, now: float) -> None:
        request.first_token_time = now
        started = Started(
            request_id=request.request_id,
            cached_tokens=request.cached_tokens or 0,
            begun=Begun(request.admitted_time, now),
        )
        self._life.outbox.to(request.peer).started.append(started)
        self._life.metrics.on_first_token(request)

    def _fail_invalid(self, flight: Flight, token_ids: Ints) -> None:
        """Rows that brought an error. Of a request that left, too, no bad block may be found."""
        for row in (token_ids < NO_TOKEN).nonzero()[0]:
            slot = int(flight.slots[row])
            if (request := flight.vacated.get(slot) or self._life.running.get(slot)) is None:
                continue
            with self._life.boundary(request):
                if token_ids[row] == INVALID_TOKEN:
                    self._life.kv.distrust(request)
                self._life.finish(request, "error", error=ERRORS[int(token_ids[row])])

    def _finish_pooled(self, flight: Flight, pooled: PooledRow) -> None:
        """The vector is all that its request wanted, whether or not it kept its slot."""
        life, slot = self._life, int(flight.slots[pooled.row])
        request = flight.vacated.get(slot) or life.running.get(slot)
        if request is None or request.over:
            return
        with life.boundary(request):
            now = request.token_time = life.clock()
            if request.slot != NO_SLOT:
                life.slots.token_time[request.slot] = now
            request.pooled = True
            self._start(request, now)
            output = PooledOutput(request_id=request.request_id, vector=pooled.vector)
            life.outbox.to(request.peer).pooled.append(output)
            life.finish(request, "stop")

    def _route_prompt_logprobs(self, flight: Flight, values: PromptLogprobs) -> None:
        """Once per position: after a preemption the worker computes, and says, them again."""
        slot = int(flight.slots[values.row])
        request = flight.vacated.get(slot) or self._life.running.get(slot)
        if request is None or request.over:
            return
        with self._life.boundary(request):
            end = values.start + len(unpack(values.values.ranks))
            start = max(values.start, request.prompt_logprobs_end)
            if start >= end:
                return
            request.prompt_logprobs_end = end
            kept = np.arange(start - values.start, end - values.start)
            output = PromptLogprobsOutput(
                request_id=request.request_id,
                start=start,
                values=select_logprobs(values.values, kept),
            )
            self._life.outbox.to(request.peer).prompt_logprobs.append(output)


def _sampled(flight: Flight, token_ids: Ints) -> tuple[Longs, Longs, Ints]:
    """(rows, slots, ids) of the rows that brought an id and whose requests kept their slots."""
    live = token_ids >= 0
    if flight.vacated:
        live &= flight.is_live()
    rows: Longs = live.nonzero()[0]
    if len(rows) == len(token_ids):
        return rows, flight.slots, token_ids
    return rows, flight.slots[rows], token_ids[rows]


def _end_of(request: Request, token_id: int, length: int) -> list[End]:
    """How this token ends the request: one end or none."""
    if request.is_stop(token_id, length):
        return [(request, "stop", token_id)]
    return [(request, "length", None)] if length >= request.limit else []


def _merge(one: Emission, other: Emission) -> Emission:
    """Both, in the order of the plan's rows."""
    order = np.argsort(np.concatenate([one.rows, other.rows]))
    return Emission(
        np.concatenate([one.rows, other.rows])[order],
        np.concatenate([one.peers, other.peers])[order],
        np.concatenate([one.request_ids, other.request_ids])[order],
        np.concatenate([one.token_ids, other.token_ids])[order],
    )
