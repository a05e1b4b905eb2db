"""Planner: who computes how many tokens in the next step.

Running requests first: they hold blocks, and most want one token. What is left of the budget
goes to waiting ones, in order, as slots and blocks allow. Beside rows that decode, prompts share
less than the budget (`prefill_share`).
"""

from __future__ import annotations

import numpy as np

from octavo.services.scheduler.lifecycle import Lifecycle
from octavo.services.scheduler.prefill_share import prefill_share
from octavo.services.scheduler.rations import Held, split
from octavo.services.scheduler.request import Request
from octavo.services.scheduler.slots import Longs
from octavo.services.scheduler.step import Draft, Flight, cut
from octavo.services.scheduler.tenants import NOBODY, Floats
from octavo.shared.messages import pack
from octavo.shared.steps import NewRow, StepPlan

FOR_WHO_WAITS = 0.25
"""Of the room for tenants over their share, where requests of theirs wait."""


class Planner:
    """Makes plans, and moves the slots on as if each had run."""

    def __init__(self, life: Lifecycle, last_step: int = 0) -> None:
        self._life = life
        self._limits = life.limits
        self._step = last_step

    @property
    def step(self) -> int:
        """Number of the last plan."""
        return self._step

    def plan(self) -> StepPlan | None:
        """The next step; None when nobody has anything to compute."""
        wanted = self._life.slots.wanted()
        held = self._hold_back(wanted)
        draft = Draft(wanted, self._life.filling, self._limits.max_num_batched_tokens)
        self._share(draft)
        draft.trim(self._life.running)
        self._cover(draft)
        self._admit_waiting(draft, held.tenants if held else NOBODY)
        if held:
            self._add_held(draft, held)
        return self._commit(draft)

    def _share(self, draft: Draft, held_prompts: int = 0) -> None:
        """Beside rows that decode, prompts get a part of the budget."""
        backlog = draft.prompts + held_prompts + self._life.waiting.num_tokens
        if backlog and draft.decodes:
            share = prefill_share(backlog, self._limits.prefill_beside_decode)
            draft.share = self._life.guard.bound(share)

    def _commit(self, draft: Draft) -> StepPlan | None:
        rows = draft.num_tokens.nonzero()[0]
        if not len(rows):
            return None
        life = self._life
        life.slots.advance(draft.num_tokens)
        num_tokens = self._limits.max_num_batched_tokens - draft.budget
        if len(life.tenants) > 1:
            life.tenants.charge(life.slots.tenant[rows], draft.num_tokens[rows], life.clock())
        else:
            life.tenants.charge_only(len(rows), num_tokens, life.clock())
        life.metrics.on_step(num_tokens)
        self._step += 1
        flight = Flight(self._step, rows, draft.prompts, draft.decodes, draft.bound)
        life.flights.append(flight)
        for slot, request in list(life.filling.items()):
            with life.boundary(request):
                self._publish(slot, request)
        return draft.plan(self._step, rows)

    def _publish(self, slot: int, request: Request) -> None:
        """Whose prompt goes on in the last plan."""
        computed = int(self._life.slots.computed[slot])
        self._life.kv.publish(request, computed)
        if computed >= len(request.token_ids):
            del self._life.filling[slot]

    # --- tenants over their share -------------------------------------------------------

    def _hold_back(self, wanted: Longs) -> Held | None:
        """Take out of int64[slots] `wanted` the rows that come after the others', if any do.

        Of a better priority than all others none does.
        """
        life = self._life
        if len(life.tenants) < 2 or not life.rations.active:
            return None
        if not (over := life.tenants.over(self._prompts(wanted))):
            return None
        slots = life.slots
        theirs = np.isin(slots.tenant, list(over))
        urgent = slots.priority[(wanted > 0) & ~theirs].tolist()
        if (best := life.waiting.best_priority(without=over)) is not None:
            urgent.append(best)
        if not urgent:
            return None
        theirs &= slots.priority >= min(urgent)
        come_after = frozenset(one for one in over if self._comes_after(one, min(urgent)))
        held = Held(come_after, np.where(theirs, wanted, 0))
        wanted[theirs] = 0
        return held

    def _comes_after(self, tenant: int, priority: int) -> bool:
        first = self._life.waiting.first_of(tenant)
        return first is None or first.priority >= priority

    def _prompts(self, wanted: Longs) -> Floats:
        """float64[tenants]: tokens of prompts that each would have in a step of its own."""
        tokens = self._life.waiting.tokens(len(self._life.tenants.weight))
        for slot, request in self._life.filling.items():
            tokens[request.tenant] += wanted[slot]
        return np.minimum(tokens, self._limits.max_num_batched_tokens)

    def _add_held(self, draft: Draft, held: Held) -> None:
        """As much as the others' step has room for: who runs, then who waits."""
        life, rations = self._life, self._life.rations
        if rations.looks(draft.num_rows, draft.prompts):
            return
        filling = np.zeros(len(held.wanted), bool)
        filling[list(life.filling)] = True
        is_theirs = (held.wanted > 0) & (draft.num_tokens == 0)  # some have made room for others
        wanted = np.where(is_theirs, life.slots.wanted(), 0)
        room, draft.bound = rations.bound(draft.num_rows, draft.prompts)
        room, kept = split(room, FOR_WHO_WAITS if self._waits(held.tenants) else 0.0)
        picked = rations.pick(room, wanted, filling, life.slots.tenant, life.tenants.weight)
        draft.add(cut(np.where(filling, 0, picked), draft.budget))
        self._share(draft, int(wanted[filling].sum()))
        draft.add(cut(np.where(filling, picked, 0), draft.room))
        self._cover(draft)
        draft.leave_room(rations.tokens(kept))
        self._admit_waiting(draft)

    def _waits(self, tenants: frozenset[int]) -> bool:
        """Whether a request of theirs could be admitted."""
        waiting = self._life.waiting
        return any(waiting.first_of(tenant) is not None for tenant in tenants)

    # --- running requests ---------------------------------------------------------------

    def _cover(self, draft: Draft) -> None:
        """Blocks for rows that outgrow theirs; the last in order make room for the others, first
        those whose tenant has most beyond its share, but never who is first of all: somebody gets
        to the end.

        Whoever is given up here cannot come back in the same step: part of its blocks is taken.
        """
        life = self._life
        short = self._short_of_blocks(draft)
        while len(short) > life.kv.pool.num_free:
            self._give_up_last(draft)
            short = self._short_of_blocks(draft)
        if not len(short):
            return
        for slot in short.tolist():
            request = life.running[slot]
            with life.boundary(request):
                draft.append_block(slot, len(request.block_ids), life.grow(request))
            if request.over:
                draft.drop(slot)

    def _short_of_blocks(self, draft: Draft) -> Longs:
        """Slots that need one more block (never two: known tokens got theirs at admission)."""
        slots = self._life.slots
        rows: Longs = (slots.computed + draft.num_tokens > slots.capacity).nonzero()[0]
        return rows

    def _give_up_last(self, draft: Draft) -> None:
        life = self._life
        first, *others = sorted(life.running.values(), key=lambda one: one.order)
        if not others:
            draft.drop(first.slot)
            with life.boundary(first):
                life.finish(first, "error", error="too_long")
            return
        excess = life.tenants.excess
        last = max(others, key=lambda one: (one.priority, excess(one.tenant), one.order))
        self._preempt(last, draft)

    def _preempt(self, request: Request, draft: Draft) -> None:
        draft.drop(request.slot)
        self._life.preempt(request)

    # --- waiting requests ---------------------------------------------------------------

    def _admit_waiting(self, draft: Draft, without: frozenset[int] = NOBODY) -> None:
        """In order, up to the first that does not fit: nobody overtakes, but those of the tenants
        `without` are passed over."""
        life = self._life
        if not self._somebody_fits():
            return
        for slot, filling in life.filling.items():
            self._note_keys(filling, slot, draft)
        while draft.room > 0 and (request := life.waiting.first(without)) is not None:
            admitted = True
            with life.boundary(request):
                admitted = self._admit(request, draft)
            if not admitted:
                return

    def _admit(self, request: Request, draft: Draft) -> bool:
        """Admit or end the request; False: it has to wait."""
        life = self._life
        if request.pending or not (life.slots.num_vacant or self._outranks(request)):
            return False
        if self._limits.whole_prompts and request.prompt_len > draft.room:
            return False
        if self._limits.blocks_for(len(request.token_ids)) > self._limits.num_blocks:
            life.finish(request, "error", error="too_long")
            return True
        hits = life.kv.find(request)
        if self._next_key_in(draft, request, hits) or not self._make_room(request, hits, draft):
            return False
        slot = life.admit(request, hits)
        request.admitted_by = self._step + 1
        num_computed = len(hits) * self._limits.block_size
        num_tokens = min(draft.room, len(request.token_ids) - num_computed)
        draft.add_row(_new_row(request, num_computed), num_tokens)
        self._note_keys(request, slot, draft)
        return True

    def _somebody_fits(self) -> bool:
        """Whether there is a slot, or somebody who would give one up."""
        life = self._life
        if life.slots.num_vacant or not len(life.waiting):
            return bool(len(life.waiting))
        best = life.waiting.best_priority()
        if best is not None and best < int(life.slots.priority.max()):
            return True
        return life.tenants.any_rich() and any(self._is_owed(one) for one in life.waiting.firsts())

    def _outranks(self, request: Request) -> bool:
        """Whether somebody who runs has to give way to the request."""
        life = self._life
        if request.priority < int(life.slots.priority.max()):
            return True
        return life.tenants.any_rich() and self._is_owed(request)

    def _yields(self, runs: Request, waits: Request) -> bool:
        """To a better priority, or to a tenant that has less than its share."""
        priority = int(self._life.slots.priority[runs.slot])
        if priority != waits.priority:
            return priority > waits.priority
        if runs.tenant == waits.tenant or not self._is_owed(waits):
            return False
        return self._life.tenants.may_lose(runs.tenant, len(runs.block_ids))

    def _is_owed(self, request: Request) -> bool:
        """Whether it is part of its tenant's share."""
        num_blocks = self._limits.blocks_for(len(request.token_ids))
        return self._life.tenants.may_take(request.tenant, num_blocks)

    def _next_key_in(self, draft: Draft, request: Request, hits: list[int]) -> bool:
        """Whether this very step computes the next block: in one step's time it is a hit."""
        if request.sampling.prompt_logprobs is not None:
            return False  # never takes a hit, so there is none to wait for
        wanted = (len(request.token_ids) - 1) // self._limits.block_size
        return len(hits) < min(wanted, len(request.keys)) and request.keys[len(hits)] in draft.keys

    def _note_keys(self, request: Request, slot: int, draft: Draft) -> None:
        computed = self._life.slots.computed[slot] + draft.num_tokens[slot]
        end = int(computed) // self._limits.block_size
        draft.keys.update(request.keys[request.num_published : end])

    def _make_room(self, request: Request, hits: list[int], draft: Draft) -> bool:
        """A slot and blocks for a waiting request, if need be from those that yield to it."""
        if self._fits(request, hits):
            return True
        if not self._outranks(request):
            return False
        running = sorted(self._life.running.values(), key=lambda one: one.order, reverse=True)
        victims = [one for one in running if self._yields(one, request)]
        most = self._life.kv.pool.num_free + sum(len(one.block_ids) for one in victims)
        spare = self._limits.spare_blocks if len(victims) < len(running) else 0
        if most < self._limits.blocks_for(len(request.token_ids)) - len(hits) + spare:
            return False
        for victim in victims:
            if not self._yields(victim, request):
                continue
            self._preempt(victim, draft)
            if self._fits(request, hits):
                return True
        return False

    def _fits(self, request: Request, hits: list[int]) -> bool:
        life = self._life
        spare = self._limits.spare_blocks if life.running else 0
        return life.slots.num_vacant > 0 and life.kv.shortage(request, hits) + spare <= 0


def _new_row(request: Request, num_computed: int) -> NewRow:
    return NewRow(
        slot=request.slot,
        prompt_len=request.prompt_len,
        num_computed=num_computed,
        token_ids=pack(request.token_ids),
        block_ids=pack(request.block_ids),
        sampling=request.sampling,
        pooling=request.pooling,
    )
