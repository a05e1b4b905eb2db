"""What schedulers and workers say to one another, as tagged unions (see `messages`):

    scheduler -> worker      ToWorker      Adopt | StepPlan | PrepareGrammar | DropGrammar | Stop
    worker    -> scheduler   FromWorker    WorkerReady | GrammarReady | RowsRefused | StepResult |
                                           StepFailed

A scheduler counts its steps and grammars from `first_number(epoch)`, so that no answer to the dead
is taken for one to the living.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.messages import Item, Logprobs, Message
from octavo.shared.pooling import PoolingParams
from octavo.shared.sampling import SamplingParams

NO_TOKEN = -1
"""In StepResult.token_ids: nothing was sampled; prompt tokens are left to compute, or `pooled`
has what was wanted."""
INVALID_TOKEN = -2
"""In StepResult.token_ids: the row's logits, or log-probabilities of its prompt, are no numbers;
the request must end with an error."""
STUCK_TOKEN = -3
"""In StepResult.token_ids: the request's constraints left no id; it must end with an error."""
BROKEN_TOKEN = -4
"""In StepResult.token_ids: the worker could not take the request in; it must end with an error."""


def first_number(epoch: int) -> int:
    """Where a scheduler begins to count."""
    return epoch << 32


# --- scheduler -> worker --------------------------------------------------------------------


class NewRow(Item):
    """A request takes a slot: everything the worker needs to know of it, said once.

    `token_ids` int32[known tokens]: the prompt, then the outputs so far (not empty after a
    preemption). The first `num_computed` of them are in the KV cache already (prefix hit).
    `block_ids` int32[blocks]: its block table so far. Re-initialises every field of the slot.
    """

    slot: int
    prompt_len: int
    num_computed: int
    token_ids: bytes
    block_ids: bytes
    sampling: SamplingParams
    pooling: PoolingParams | None = None


class StepPlan(Message):
    """One step for the workers.

    Row i of the batch is slot `slots[i]` (int32[n]) and computes its next `num_tokens[i]`
    (int32[n]) tokens: known ones, or the one sampled for it in the step before. A row whose
    computed count reaches its known count samples one token (which then counts as known).
    Blocks appended since the last plan: block `append_blocks[j]` becomes entry `append_index[j]`
    of slot `append_slots[j]`'s block table (int32[m] each). Order: new rows first, appends next.
    """

    step: int
    new_rows: list[NewRow]
    slots: bytes
    num_tokens: bytes
    append_slots: bytes = b""
    append_index: bytes = b""
    append_blocks: bytes = b""


class Adopt(Message):
    """All requests and grammars are over: a scheduler's first message to workers that it finds, and
    its answer to StepFailed."""


class Stop(Message):
    """Finish what is in flight and exit."""


class PrepareGrammar(Message):
    """Compile a grammar, and keep it until it is dropped. Requests name it by its `spec`."""

    number: int
    spec: GrammarSpec


class DropGrammar(Message):
    """No request that may still get a slot needs the grammar."""

    number: int


ToWorker: TypeAlias = Adopt | StepPlan | PrepareGrammar | DropGrammar | Stop


# --- worker -> scheduler --------------------------------------------------------------------


class WorkerReady(Message):
    """Said at the start, and from then on as a sign of life whenever there is nothing to do: a
    scheduler that is started later hears of the workers by it. `epoch`: of the whole group."""

    rank: int
    num_blocks: int
    epoch: int = 0
    phases: dict[str, float] = msgspec.field(default_factory=dict)
    """Seconds of its start."""


class PromptLogprobs(Item):
    """Log-probabilities of prompt tokens `start`.. of the request in plan row `row`."""

    row: int
    start: int
    values: Logprobs


class PooledRow(Item):
    """The vector of plan row `row`, float32[dimensions], whose prompt is computed."""

    row: int
    vector: bytes


class StepResult(Message):
    """`token_ids` int32[n], aligned with the plan's rows: an id, or one of the negative values.

    `logprob_rows` int32[m]: the plan rows that asked for logprobs and sampled; `logprobs` theirs.
    `forward_seconds`: from the step's beginning, or the end of the one before it, to its end.
    """

    step: int
    token_ids: bytes
    logprob_rows: bytes = b""
    logprobs: Logprobs | None = None
    prompt_logprobs: list[PromptLogprobs] = msgspec.field(default_factory=list)
    forward_seconds: float = 0.0
    pooled: list[PooledRow] = msgspec.field(default_factory=list)
    graph: bool = False
    """It ran as a captured graph."""
    compilations: int = 0
    """Kernels compiled since the start was over."""
    spent: dict[str, float] = msgspec.field(default_factory=dict)
    """Seconds of the worker's own thread: `prepare` the batch, have it `forward`ed and `sample`d.
    On a GPU that is handing out work, beside `forward_seconds`; on a CPU the work itself."""


class StepFailed(Message):
    """Instead of a StepResult: the step could not be computed, `memory`: for want of it.

    Nor are the plans behind it. The worker waits for an Adopt.
    """

    step: int
    memory: bool = False


class GrammarReady(Message):
    """PrepareGrammar `number` has been carried out by this rank, or `failed`."""

    rank: int
    number: int
    failed: bool = False


class RowsRefused(Message):
    """A rank without results could not take in the new rows of plan `step` in `slots` (int32[n]).
    Said before it computes the plan: what it samples for these rows is wrong, and all behind it."""

    step: int
    slots: bytes


FromWorker: TypeAlias = WorkerReady | GrammarReady | RowsRefused | StepResult | StepFailed
