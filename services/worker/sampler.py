"""Sampler: hidden states of a step -> sampled ids, on the device, nothing waited for.

Order, as vLLM's: log-probabilities are of the raw logits; then logit bias and bans, penalties,
the masks of constraints, temperature, filters, noise. The id stays on the device for the next
step and starts its way back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from octavo.kernels import invariance, ops
from octavo.services.worker.causal_lm import CausalLM
from octavo.services.worker.constraints.constraint import MatcherOf
from octavo.services.worker.constraints.constraints import Constraints
from octavo.services.worker.constraints.patience import Patience
from octavo.services.worker.inputs import StepInputs
from octavo.services.worker.slots import Bias, Rows, SlotTable
from octavo.services.worker.staging import to_device
from octavo.shared.steps import NewRow

IN_PROMPT = 1 << 30
"""Bit of a token count: the token stands in the prompt (kernels' `apply_penalties`)."""
PROMPT_LOGITS_CHUNK = 128
"""Prompt positions whose logits exist at once: bounds the memory that prompt_logprobs takes."""

LogprobTensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Hidden:
    """What a forward pass leaves to sampling."""

    samples: torch.Tensor
    """[>= k, H]: of the tokens that sample, in order."""
    every: torch.Tensor | None = None
    """[>= T, H]: of all tokens, where `Rows.whole`."""
    captured: bool = False
    """By a CUDA graph."""


@dataclass
class PromptPart:
    """Log-probabilities of prompt tokens `start`.. of plan row `row`, as tensors."""

    row: int
    start: int
    values: LogprobTensors


@dataclass
class Sampled:
    """What a step brought, still on the device. `ids` int32[k]."""

    ids: torch.Tensor | None = None
    logprob_rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    logprobs: LogprobTensors | None = None
    prompt: list[PromptPart] = field(default_factory=list)
    stuck: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """Plan rows whose constraints leave no id: what was sampled for them is void."""


class Sampler:
    def __init__(
        self,
        model: CausalLM,
        table: SlotTable,
        inputs: StepInputs,
        vocab_size: int,
        matcher_of: MatcherOf,
        patience: Patience,
    ) -> None:
        self.model = model
        self.table = table
        self.inputs = inputs
        self.device = inputs.last_token.device
        max_slots = len(table.known)
        self.counts = torch.zeros(max_slots, vocab_size, dtype=torch.int32, device=self.device)
        self.constraints = Constraints(max_slots, vocab_size, self.device, matcher_of, patience)

    def admit(self, row: NewRow) -> None:
        """Take in what a penalized or constrained request has said so far.

        Raises ValueError on an id outside the vocabulary, of which the device would make an error
        of everybody's.
        """
        for ids in (row.sampling.logit_bias, row.sampling.stop_token_ids):
            if ids and not 0 <= min(ids) <= max(ids) < self.counts.shape[1]:
                raise ValueError("token id outside the vocabulary")
        self.constraints.admit(row)
        if not row.sampling.has_penalties:
            return
        tokens = self._index(self.table.tokens[row.slot])
        prompt, output = tokens[: row.prompt_len], tokens[row.prompt_len :]
        counts = self.counts[row.slot].zero_()
        counts.index_add_(0, output, torch.ones_like(output, dtype=torch.int32))
        counts[prompt] |= IN_PROMPT

    def sample(self, hidden: Hidden, rows: Rows) -> Sampled:
        """One id for each sampling row, and the log-probabilities that are asked for."""
        sampled = Sampled()
        if hidden.every is not None:
            sampled.prompt = self._prompt_logprobs(hidden.every, rows)
        if k := len(rows.samples):
            self._sample_rows(self.model.logits(hidden.samples[:k]), rows, sampled)
        return sampled

    def _sample_rows(self, logits: torch.Tensor, rows: Rows, sampled: Sampled) -> None:
        """logits [k, vocab]."""
        wanted = self.table.num_logprobs[rows.sample_slots]
        asked = np.flatnonzero(wanted >= 0)
        if len(asked) or self._adjusts(rows) or invariance.is_on():
            logits = logits.float()  # whose sums have another order, so always, if it is for all
        raw = logits[self._index(asked)] if len(asked) else None
        self._adjust(logits, rows)
        sampled.stuck = rows.samples[self.constraints.apply(logits, rows)]
        ids = self._choose(logits, rows)
        slots = self.inputs.staging.device["sample_slots"][: len(ids)]
        self.inputs.last_token.index_copy_(0, slots, ids.clamp(min=0))
        self._count(slots, ids, rows)
        self.constraints.follow(ids, rows)
        sampled.ids = ids
        if raw is not None:
            chosen = ids[self._index(asked)].clamp(min=0)
            sampled.logprob_rows = rows.samples[asked]
            sampled.logprobs = ops.token_logprobs(raw, chosen, int(wanted.max()))

    def _choose(self, logits: torch.Tensor, rows: Rows) -> torch.Tensor:
        staged, k, slots = self.inputs.staging.device, len(rows.samples), rows.sample_slots
        table = self.table
        return ops.sample(
            logits,
            staged["temperature"][:k],
            staged["top_k"][:k],
            staged["top_p"][:k],
            staged["min_p"][:k],
            staged["seed"][:k],
            staged["noise_position"][:k],
            random=bool(table.temperature[slots].any()),
            filtered=bool(
                table.top_k[slots].any()
                or (table.top_p[slots] < 1.0).any()
                or table.min_p[slots].any()
            ),
        )

    def _adjusts(self, rows: Rows) -> bool:
        slots = rows.sample_slots
        return bool(self.table.adjusted[slots].any() or self.table.penalized[slots].any())

    def _adjust(self, logits: torch.Tensor, rows: Rows) -> None:
        """Add logit bias, bans and penalties to float32 logits, for the rows that have any."""
        slots = rows.sample_slots
        if self.table.adjusted[slots].any():
            self._bias(logits, rows)
        if self.table.penalized[slots].any():
            staged, k = self.inputs.staging.device, len(slots)
            ops.apply_penalties(
                logits,
                staged["sample_slots"][:k].int(),
                self.counts,
                staged["presence"][:k],
                staged["frequency"][:k],
                staged["repetition"][:k],
            )

    def _bias(self, logits: torch.Tensor, rows: Rows) -> None:
        """Add logit_bias, and -inf to stop ids before min_tokens, where a row has them."""
        table, slots = self.table, rows.sample_slots
        parts = [
            (index, part)
            for index in np.flatnonzero(table.adjusted[slots]).tolist()
            for part in self._row_bias(int(slots[index]), int(rows.positions[index]))
        ]
        row = np.repeat([index for index, _ in parts], [len(part[0]) for _, part in parts])
        if len(row):
            tokens = np.concatenate([part[0] for _, part in parts])
            values = torch.from_numpy(np.concatenate([part[1] for _, part in parts]))
            where = (self._index(row), self._index(tokens))
            logits.index_put_(where, to_device(values, self.device), accumulate=True)

    def _row_bias(self, slot: int, position: int) -> list[Bias]:
        table = self.table
        banned = position < table.min_len[slot]
        return [table.bias[slot], table.bans[slot]] if banned else [table.bias[slot]]

    def _count(self, slots: torch.Tensor, ids: torch.Tensor, rows: Rows) -> None:
        penalized = np.flatnonzero(self.table.penalized[rows.sample_slots])
        if len(penalized):
            index = self._index(penalized)
            where = (slots[index], ids[index].clamp(min=0).long())
            ones = torch.ones(len(penalized), dtype=torch.int32, device=self.device)
            self.counts.index_put_(where, ones, accumulate=True)

    def _prompt_logprobs(self, hidden: torch.Tensor, rows: Rows) -> list[PromptPart]:
        asked = np.flatnonzero(self.table.num_prompt_logprobs[rows.slots] >= 0)
        parts = (self._prompt_part(hidden, rows, int(row)) for row in asked)
        return [part for part in parts if part is not None]

    def _prompt_part(self, hidden: torch.Tensor, rows: Rows, row: int) -> PromptPart | None:
        """Token at p is predicted by the hidden state at p - 1."""
        slot = rows.slots[row]
        start = int(rows.computed[row]) + 1
        end = min(start + int(rows.num_tokens[row]), int(self.table.prompt_len[slot]))
        if start >= end:
            return None
        first = int(rows.query_start[row])
        targets = self._index(self.table.tokens[slot][start:end]).int()
        wanted = int(self.table.num_prompt_logprobs[slot])
        values = []
        for at in range(0, end - start, PROMPT_LOGITS_CHUNK):
            part = slice(at, min(at + PROMPT_LOGITS_CHUNK, end - start))
            logits = self.model.logits(hidden[first + part.start : first + part.stop]).float()
            values.append(ops.token_logprobs(logits, targets[part], wanted))
        ids, logprobs, ranks = (torch.cat(column) for column in zip(*values, strict=True))
        return PromptPart(row, start, (ids, logprobs, ranks))

    def _index(self, values: np.ndarray) -> torch.Tensor:
        """A host index on the device, as int64."""
        return to_device(torch.from_numpy(np.asarray(values, np.int64)), self.device)
