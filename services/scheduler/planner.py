"""Planner: who computes how many tokens in the next step.

Running requests first: they hold blocks, and most want one token. What is left of the budget
goes to waiting ones, in order, as slots and blocks allow. Beside rows that decode, prompts share
less than the budget (`prefill_share`).
"""

from __future__ import annotations

from octavo.services.scheduler.lifecycle import Lifecycle
from octavo.services.scheduler.prefill_share import prefill_share
from octavo.services.scheduler.request import Request
from octavo.services.scheduler.slots import Longs
from octavo.services.scheduler.step import Draft, Flight
from octavo.services.scheduler.turns import EVERYBODY
from octavo.shared.messages import NewRow, StepPlan, pack


class Planner:
    """Makes plans, and moves the slots on as if each had run."""

    def __init__(self, life: Lifecycle, last_step: int = 0) -> None:
        self._life = life
        self._limits = life.limits
        self._step = last_step
        self._turn = EVERYBODY

    @property
    def step(self) -> int:
        """Number of the last plan."""
        return self._step

    def plan(self) -> StepPlan | None:
        """The next step; None when nobody has anything to compute."""
        life = self._life
        self._turn = EVERYBODY
        if over := life.tenants.over():
            coming = [one for one in life.waiting.firsts() if self._may_come(one)]
            self._turn = life.turns.next(life.slots, over, [*life.filling.values(), *coming])
        plan = self._plan()
        if plan is None and self._turn.held:
            self._turn = EVERYBODY
            plan = self._plan()
        return plan

    def _may_come(self, request: Request) -> bool:
        """Whether there seems to be room for a waiting request."""
        life = self._life
        has_slot = life.slots.num_vacant > 0 or self._outranks(request)
        return has_slot and self._limits.blocks_for(len(request.token_ids)) <= life.kv.pool.num_free

    def _plan(self) -> StepPlan | None:
        life, limits = self._life, self._limits
        wanted = life.slots.wanted()
        if self._turn.held:
            wanted[self._turn.rows(life.slots)] = 0
        draft = Draft(wanted, life.filling, limits.max_num_batched_tokens)
        backlog = draft.prompts + life.waiting.num_tokens
        if backlog and draft.decodes:
            share = prefill_share(backlog, limits.prefill_beside_decode)
            draft.share = life.guard.bound(share)
        draft.trim(life.running)
        self._cover(draft)
        self._admit_waiting(draft)
        return self._commit(draft)

    def _commit(self, draft: Draft) -> StepPlan | None:
        rows = draft.num_tokens.nonzero()[0]
        if not len(rows):
            return None
        life = self._life
        life.slots.advance(draft.num_tokens)
        for slot, request in list(life.filling.items()):
            computed = int(life.slots.computed[slot])
            life.kv.publish(request, computed)
            if computed >= len(request.token_ids):
                del life.filling[slot]
        life.tenants.charge(life.slots.tenant[rows], draft.num_tokens[rows])
        life.metrics.on_step(self._limits.max_num_batched_tokens - draft.budget)
        self._step += 1
        flight = Flight(self._step, rows, draft.prompts, draft.decodes, self._turn.together)
        life.flights.append(flight)
        return draft.plan(self._step, rows)

    # --- running requests ---------------------------------------------------------------

    def _cover(self, draft: Draft) -> None:
        """Blocks for rows that outgrow theirs; the last in order make room for the others.

        Whoever is given up here cannot come back in the same step: part of its blocks is taken.
        """
        life = self._life
        short = self._short_of_blocks(draft)
        while len(short) > life.kv.pool.num_free:
            self._give_up_last(draft)
            short = self._short_of_blocks(draft)
        if not len(short):
            return
        life.slots.capacity[short] += self._limits.block_size
        for slot in short.tolist():
            request = life.running[slot]
            draft.append_block(slot, len(request.block_ids), life.kv.grow(request))

    def _short_of_blocks(self, draft: Draft) -> Longs:
        """Slots that need one more block (never two: known tokens got theirs at admission)."""
        slots = self._life.slots
        rows: Longs = (slots.computed + draft.num_tokens > slots.capacity).nonzero()[0]
        return rows

    def _give_up_last(self, draft: Draft) -> None:
        life = self._life
        last = max(life.running.values(), key=lambda request: request.order)
        if len(life.running) > 1:
            self._preempt(last, draft)
            return
        draft.drop(last.slot)
        life.finish(last, "error", error="too_long")

    def _preempt(self, request: Request, draft: Draft) -> None:
        draft.drop(request.slot)
        self._life.preempt(request)

    # --- waiting requests ---------------------------------------------------------------

    def _admit_waiting(self, draft: Draft) -> None:
        """In order, up to the first that does not fit: nobody overtakes."""
        life = self._life
        for slot, filling in life.filling.items():
            self._note_keys(filling, slot, draft)
        while (request := life.waiting.first()) is not None and draft.room > 0:
            admitted = True
            with life.boundary(request):
                admitted = self._admit(request, draft)
            if not admitted:
                return

    def _admit(self, request: Request, draft: Draft) -> bool:
        """Admit or end the request; False: it has to wait."""
        life = self._life
        if self._turn.holds(request):
            return False
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
        num_computed = len(hits) * self._limits.block_size
        num_tokens = min(draft.room, len(request.token_ids) - num_computed)
        draft.add_row(_new_row(request, num_computed), num_tokens)
        self._note_keys(request, slot, draft)
        return True

    def _outranks(self, request: Request) -> bool:
        """Whether somebody who runs has to give way to the request."""
        life = self._life
        if request.priority < int(life.slots.priority.max()):
            return True
        return life.tenants.is_owed(request.tenant)

    def _yields(self, runs: Request, waits: Request) -> bool:
        """To a better priority, or to a tenant that has less than its share."""
        priority = int(self._life.slots.priority[runs.slot])
        if priority != waits.priority:
            return priority > waits.priority
        return self._life.tenants.owes(runs.tenant, waits.tenant)

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
