"""SlotTable: the host's mirror of every slot, and the plan's rows resolved against it.

The host never waits for the device to know where a request stands: each row that samples gains
exactly one token, so computed and known lengths follow from the plans alone. Which token it was,
only the device knows (`StepInputs.last_token`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from octavo.shared.messages import unpack
from octavo.shared.steps import NewRow, StepPlan

Ints = npt.NDArray[np.int32]

FROM_DEVICE = -1
"""In host ids: take the slot's last sampled token."""


Bias = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""(token ids, what is added to their logits)"""


def as_bias(added: dict[int, float]) -> Bias:
    return np.array(list(added), np.int64), np.array(list(added.values()), np.float32)


NO_BIAS = as_bias({})


@dataclass(frozen=True)
class Rows:
    """One plan, resolved: n rows, T tokens, k rows that sample.

    `host_ids` int32[T] holds ids or FROM_DEVICE. `samples` int64[k] are the sampling rows and
    `positions` int32[k] where their new tokens will stand.
    """

    slots: npt.NDArray[np.int32]
    num_tokens: npt.NDArray[np.int32]
    query_start: npt.NDArray[np.int32]
    computed: npt.NDArray[np.int32]
    host_ids: npt.NDArray[np.int32]
    samples: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int32]
    whole: bool = False
    """Whether the hidden states of all tokens are wanted: log-probabilities of a prompt are."""
    broken: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Rows whose requests could not be taken in (`admission`)."""

    @property
    def num_rows(self) -> int:
        return len(self.slots)

    @property
    def total_tokens(self) -> int:
        return int(self.query_start[-1])

    @property
    def decode_only(self) -> bool:
        return self.total_tokens == self.num_rows

    @property
    def sample_slots(self) -> npt.NDArray[np.int32]:
        return self.slots[self.samples]


class SlotTable:
    """Per-slot arrays; `admit` re-initialises every one of them."""

    def __init__(self, max_slots: int) -> None:
        self.computed = np.zeros(max_slots, np.int32)
        self.known = np.zeros(max_slots, np.int32)
        self.said = np.zeros(max_slots, np.int32)
        self.prompt_len = np.zeros(max_slots, np.int32)
        self.tokens: list[npt.NDArray[np.int32]] = [np.zeros(0, np.int32)] * max_slots
        self.temperature = np.zeros(max_slots, np.float32)
        self.top_k = np.zeros(max_slots, np.int32)
        self.top_p = np.ones(max_slots, np.float32)
        self.min_p = np.zeros(max_slots, np.float32)
        self.seed = np.zeros(max_slots, np.int64)
        self.presence = np.zeros(max_slots, np.float32)
        self.frequency = np.zeros(max_slots, np.float32)
        self.repetition = np.ones(max_slots, np.float32)
        self.penalized = np.zeros(max_slots, np.bool_)
        self.adjusted = np.zeros(max_slots, np.bool_)
        self.min_len = np.zeros(max_slots, np.int64)
        self.bias: list[Bias] = [NO_BIAS] * max_slots
        self.bans: list[Bias] = [NO_BIAS] * max_slots
        self.num_logprobs = np.full(max_slots, -1, np.int32)
        self.num_prompt_logprobs = np.full(max_slots, -1, np.int32)
        self.broken = np.zeros(max_slots, np.bool_)

    def admit(self, row: NewRow) -> None:
        slot, params = row.slot, row.sampling
        self.tokens[slot] = unpack(row.token_ids)
        self.said[slot] = self.known[slot] = len(self.tokens[slot])
        self.computed[slot] = row.num_computed
        self.prompt_len[slot] = row.prompt_len
        self.temperature[slot] = 0.0 if params.greedy else params.temperature
        self.top_k[slot] = max(params.top_k, 0)
        self.top_p[slot] = params.top_p
        self.min_p[slot] = params.min_p
        self.seed[slot] = params.seed or 0
        self.presence[slot] = params.presence_penalty
        self.frequency[slot] = params.frequency_penalty
        self.repetition[slot] = params.repetition_penalty
        self.penalized[slot] = params.has_penalties
        # Constraints see to min_tokens themselves: bans of both kinds could leave nothing.
        min_tokens = 0 if params.is_constrained else params.min_tokens
        self.adjusted[slot] = bool(params.logit_bias) or min_tokens > 0
        self.min_len[slot] = row.prompt_len + min_tokens
        self.bias[slot] = as_bias(params.logit_bias)
        self.bans[slot] = as_bias(dict.fromkeys(params.stop_ids, float("-inf")))
        self.num_logprobs[slot] = -1 if params.logprobs is None else params.logprobs
        wanted = params.prompt_logprobs
        self.num_prompt_logprobs[slot] = -1 if wanted is None else wanted
        self.broken[slot] = False

    def resolve(self, plan: StepPlan) -> Rows:
        """The plan's rows, and the table moved on as if the step had run."""
        slots, num_tokens = unpack(plan.slots), unpack(plan.num_tokens)
        query_start = np.zeros(len(slots) + 1, np.int32)
        np.cumsum(num_tokens, out=query_start[1:])
        computed = self.computed[slots]
        reached = computed + num_tokens
        samples = np.flatnonzero(reached == self.known[slots])
        rows = Rows(
            slots=slots,
            num_tokens=num_tokens,
            query_start=query_start,
            computed=computed,
            host_ids=self._host_ids(slots, num_tokens, computed, query_start),
            samples=samples,
            positions=reached[samples],
            whole=self._tells_prompts(slots, computed),
            broken=np.flatnonzero(self.broken[slots]),
        )
        self.computed[slots] = reached
        self.known[slots[samples]] += 1
        return rows

    def _tells_prompts(self, slots: Ints, computed: Ints) -> bool:
        """Whether a row asks for log-probabilities of prompt tokens, and some follow its own."""
        asked = self.num_prompt_logprobs[slots] >= 0
        return bool((asked & (computed + 1 < self.prompt_len[slots])).any())

    def _host_ids(self, slots: Ints, num_tokens: Ints, computed: Ints, start: Ints) -> Ints:
        """Known ids of each row's tokens. In steady decode no row has any: nothing is looped."""
        ids = np.full(int(start[-1]), FROM_DEVICE, np.int32)
        said = self.said[slots]
        for row in np.flatnonzero(computed < said):
            tokens = self.tokens[slots[row]][computed[row] : computed[row] + num_tokens[row]]
            ids[start[row] : start[row] + len(tokens)] = tokens
        return ids
