"""A worker without a model, that checks what the scheduler tells it.

The "KV" of a token is a hash of the whole sequence up to it, and the next token is a hash of the
last KV. So any wrong, stale or foreign block in a block table is noticed at the next step, and
the right output of a prompt is known without running anything (`expected_output`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.messages import Logprobs, pack, pack_floats, unpack
from octavo.shared.pooling import PoolingParams
from octavo.shared.sampling import SamplingParams
from octavo.shared.steps import (
    INVALID_TOKEN,
    NO_TOKEN,
    DropGrammar,
    NewRow,
    PooledRow,
    PrepareGrammar,
    PromptLogprobs,
    StepPlan,
    StepResult,
)

EMPTY = -1
MASK = (1 << 61) - 1


def next_kv(kv: int, token: int) -> int:
    return (kv * 1_000_003 + token * 7_919 + 12_345) * 2_862_933_555_777_941_757 & MASK


def sample(kv: int, vocab: int) -> int:
    return (kv >> 17) % vocab


def expected_output(
    prompt: list[int], params: SamplingParams, vocab: int, max_model_len: int
) -> tuple[list[int], str]:
    """Output ids and finish reason of the deterministic model."""
    kv = 0
    for token in prompt:
        kv = next_kv(kv, token)
    output: list[int] = []
    while True:
        token = sample(kv, vocab)
        output.append(token)
        if token in params.stop_ids and len(output) >= params.min_tokens:
            return output, "stop"
        longest = len(output) == params.max_tokens or len(prompt) + len(output) >= max_model_len
        if longest:
            return output, "length"
        kv = next_kv(kv, token)


def expected_vector(prompt: list[int]) -> list[float]:
    """Of a request that pools: its last KV and its length."""
    kv = 0
    for token in prompt:
        kv = next_kv(kv, token)
    return [float(kv & 0xFFFF), float(len(prompt))]


def logprobs_of(token_ids: list[int]) -> Logprobs:
    """Log-probabilities that tell their tokens."""
    return Logprobs(
        width=1,
        token_ids=pack(token_ids),
        logprobs=pack_floats([-float(token) for token in token_ids]),
        ranks=pack([1] * len(token_ids)),
    )


@dataclass
class SlotState:
    tokens: list[int]
    computed: int
    table: list[int]
    prompt_len: int
    sampling: SamplingParams
    pooling: PoolingParams | None = None
    kv: list[int] = field(default_factory=list)

    def extend_kv(self) -> None:
        for token in self.tokens[len(self.kv) :]:
            self.kv.append(next_kv(self.kv[-1] if self.kv else 0, token))


class StepFails(Exception):
    """The step holds a token that is fatal."""


class FakeWorker:
    """Runs plans in order; raises AssertionError on any breach of StepPlan's contract."""

    def __init__(self, *, num_blocks: int, block_size: int, max_num_seqs: int, vocab: int) -> None:
        self.block_size = block_size
        self.max_num_seqs = max_num_seqs
        self.vocab = vocab
        self.pages = np.full((num_blocks, block_size), EMPTY, np.int64)
        self.slots: dict[int, SlotState] = {}
        self.step = 0
        self.poisoned: set[int] = set()
        """Tokens: a row whose last computed token is one of these has NaN logits."""
        self.fatal: set[int] = set()
        """Tokens: a step that computes one of these raises."""
        self.longest_batch = 1 << 30
        """Rows; a step of more raises."""
        self.tokens_computed = 0
        self.grammars: dict[int, GrammarSpec] = {}
        self.whole_prompts = False
        """An encoder: a row's tokens come in one step, and none stay behind."""
        self.pooled: list[tuple[int, list[float]]] = []
        """(slot, vector) of this step."""

    def order(self, order: PrepareGrammar | DropGrammar) -> None:
        if isinstance(order, PrepareGrammar):
            assert order.spec not in self.grammars.values()
            self.grammars[order.number] = order.spec
        else:
            del self.grammars[order.number]

    def adopt(self, last_step: int) -> None:
        """Another scheduler: its requests take the slots anew."""
        self.step = last_step
        self.grammars.clear()

    def run(self, plan: StepPlan) -> StepResult:
        assert plan.step == self.step + 1
        self.step = plan.step
        slots, counts = unpack(plan.slots).tolist(), unpack(plan.num_tokens).tolist()
        assert slots and len(set(slots)) == len(slots) == len(counts) and min(counts) > 0
        assert all(0 <= slot < self.max_num_seqs for slot in slots)
        for row in plan.new_rows:
            assert row.slot in slots
            self._admit(row)
        self._append(plan, slots)
        for slot in slots:
            self._check_context(slot)
        self._check_writes(slots, counts)
        if len(slots) > self.longest_batch:
            raise StepFails
        prompt_logprobs = self._prompt_logprobs(slots, counts)
        self.pooled = []
        results = [self._compute(*row) for row in zip(slots, counts, strict=True)]
        rows = [
            row
            for row, slot in enumerate(slots)
            if results[row] >= 0 and self.slots[slot].sampling.logprobs is not None
        ]
        return StepResult(
            step=plan.step,
            token_ids=pack(results),
            logprob_rows=pack(rows),
            logprobs=logprobs_of([results[row] for row in rows]) if rows else None,
            prompt_logprobs=prompt_logprobs,
            pooled=[
                PooledRow(row=slots.index(slot), vector=pack_floats(vector))
                for slot, vector in self.pooled
            ],
        )

    def _prompt_logprobs(self, slots: list[int], counts: list[int]) -> list[PromptLogprobs]:
        """Of the prompt tokens that this step's logits are about."""
        found = []
        for row, (slot, count) in enumerate(zip(slots, counts, strict=True)):
            state = self.slots[slot]
            start = state.computed + 1
            ids = state.tokens[start : min(start + count, state.prompt_len)]
            if ids and state.sampling.prompt_logprobs is not None:
                found.append(PromptLogprobs(row=row, start=start, values=logprobs_of(ids)))
        return found

    def _admit(self, row: NewRow) -> None:
        if (spec := row.sampling.grammar) is not None:
            assert spec in self.grammars.values()
        tokens = unpack(row.token_ids).tolist()
        table = unpack(row.block_ids).tolist()
        assert 0 <= row.num_computed < len(tokens) and row.prompt_len <= len(tokens)
        assert row.num_computed % self.block_size == 0
        self.slots[row.slot] = SlotState(
            tokens, row.num_computed, table, row.prompt_len, row.sampling, row.pooling
        )

    def _append(self, plan: StepPlan, slots: list[int]) -> None:
        columns = plan.append_slots, plan.append_index, plan.append_blocks
        for slot, index, block in zip(*(unpack(one).tolist() for one in columns), strict=True):
            assert slot in slots
            assert index == len(self.slots[slot].table)
            self.slots[slot].table.append(block)

    def _check_context(self, slot: int) -> None:
        """What earlier steps left in this slot's blocks is this very sequence's KV."""
        state = self.slots[slot]
        state.extend_kv()
        assert len(set(state.table)) == len(state.table)
        found = self.pages[state.table].reshape(-1)[: state.computed]
        assert found.tolist() == state.kv[: state.computed], f"foreign KV in slot {slot}"

    def _check_writes(self, slots: list[int], counts: list[int]) -> None:
        """No block that is written in this step is in another row's table."""
        tables = [set(self.slots[slot].table) for slot in slots]
        readers = np.bincount(np.concatenate([list(table) for table in tables]))
        for slot, count in zip(slots, counts, strict=True):
            state = self.slots[slot]
            first = state.computed // self.block_size
            last = (state.computed + count - 1) // self.block_size
            for block in state.table[first : last + 1]:
                assert readers[block] == 1, f"block {block} is written and shared"

    def _compute(self, slot: int, count: int) -> int:
        state = self.slots[slot]
        assert state.computed + count <= len(state.tokens), "more tokens than are known"
        if self.fatal & set(state.tokens[state.computed : state.computed + count]):
            raise StepFails
        assert not self.whole_prompts or count == len(state.tokens)
        for position in range(state.computed, state.computed + count):
            block = state.table[position // self.block_size]
            self.pages[block, position % self.block_size] = state.kv[position]
        state.computed += count
        self.tokens_computed += count
        if state.computed < len(state.tokens):
            return NO_TOKEN
        if state.tokens[-1] in self.poisoned:
            state.tokens.append(0)
            return INVALID_TOKEN
        if state.pooling is not None:
            self.pooled.append((slot, [float(state.kv[-1] & 0xFFFF), float(len(state.tokens))]))
            state.tokens.append(0)  # the slot counts it as known, and nobody may ask for it
            return NO_TOKEN
        state.tokens.append(sample(state.kv[-1], self.vocab))
        return state.tokens[-1]


class CheapWorker:
    """Says the same token for every row that samples: for measuring the scheduler alone."""

    def __init__(self, max_num_seqs: int, token: int = 7) -> None:
        self._computed = np.zeros(max_num_seqs, np.int64)
        self._known = np.zeros(max_num_seqs, np.int64)
        self._token = token

    def run(self, plan: StepPlan) -> StepResult:
        for row in plan.new_rows:
            self._computed[row.slot] = row.num_computed
            self._known[row.slot] = len(row.token_ids) // 4
        slots = unpack(plan.slots)
        self._computed[slots] += unpack(plan.num_tokens)
        samples = self._computed[slots] == self._known[slots]
        self._known[slots] += samples
        return StepResult(step=plan.step, token_ids=pack(np.where(samples, self._token, NO_TOKEN)))
