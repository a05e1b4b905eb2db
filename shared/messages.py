"""Every struct that crosses a process, as tagged unions.

Numbers travel column-wise: a `bytes` field documented as `int32[n]` is the array's little-endian
memory (`pack` and `unpack`). Four crossings, in the order of a request's life:

    frontend  -> scheduler   ToScheduler   Hello | Submit | Abort | PageQuery |
                                           HttpCounts
    scheduler -> worker      ToWorker      Adopt | StepPlan | PrepareGrammar | DropGrammar | Stop
    worker    -> scheduler   FromWorker    WorkerReady | GrammarReady | StepResult | StepFailed
    scheduler -> frontend    ToFrontend    Outputs | EngineStats | PageText

Any of them may die and come back while messages are under way. An *epoch* is the supervisor's
number of a start, larger than those of all starts before it. A scheduler counts its steps and
grammars from `first_number(epoch)`, so that no answer to the dead is taken for one to the living.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.http_counts import Counts
from octavo.shared.keys import Quota
from octavo.shared.pooling import PoolingParams
from octavo.shared.sampling import SamplingParams

Ints: TypeAlias = npt.NDArray[np.int32]
Floats: TypeAlias = npt.NDArray[np.float32]
FinishReason: TypeAlias = Literal["stop", "length", "abort", "error", "repetition"]

REQUEST_ID_BYTES = 16
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


FURTHER = 2
"""Tokens more than at a failure with which a request has shown that it was not the cause: a
prompt's pass, and a step of decoding."""


def first_number(epoch: int) -> int:
    """Where a scheduler begins to count."""
    return epoch << 32


def pack(values: Any) -> bytes:
    """int32 column: any integer sequence or array -> its bytes."""
    return np.ascontiguousarray(values, dtype="<i4").tobytes()


def unpack(column: bytes) -> Ints:
    """int32 column: bytes -> a read-only int32 array."""
    return np.frombuffer(column, dtype="<i4")


def pack_floats(values: Any) -> bytes:
    return np.ascontiguousarray(values, dtype="<f4").tobytes()


def unpack_floats(column: bytes) -> Floats:
    return np.frombuffer(column, dtype="<f4")


class Message(msgspec.Struct, tag=True, array_like=True, gc=False):
    """Base of the tagged unions. A new field goes last, with a default."""


class Item(msgspec.Struct, array_like=True, gc=False):
    """Base of structs that travel inside a message."""


class Logprobs(Item):
    """Log-probabilities of m positions.

    `token_ids` int32[m, width] and `logprobs` float32[m, width]: column 0 is the token that stands
    at the position, columns 1.. the most likely tokens, most likely first; `ranks` int32[m] is the
    1-based rank of column 0. Width - 1 is the largest k asked for in the batch: readers cut to
    their own k.
    """

    width: int
    token_ids: bytes
    logprobs: bytes
    ranks: bytes


# --- frontend -> scheduler ------------------------------------------------------------------


class Hello(Message):
    """First message of a frontend, then its sign of life once a second: it receives EngineStats."""


class Until(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """CLOCK_MONOTONIC seconds by which a sequence has to run, to have a token, to have ended; 0:
    any time."""

    queue: float = 0.0
    first_token: float = 0.0
    end: float = 0.0


NO_HURRY = Until()


class Begun(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """CLOCK_MONOTONIC seconds when a sequence got its slot, its first token and its latest; 0: it
    never got so far."""

    admitted: float = 0.0
    first_token: float = 0.0
    token: float = 0.0


NOT_BEGUN = Begun()


class Submit(Message):
    """One sequence to generate (`n` is expanded by the sender; `sampling.seed` is set).

    `request_id`: 16 random bytes. `prompt_ids`: int32[prompt_len], at least one.
    `arrival_time`: CLOCK_MONOTONIC seconds. Lower `priority` goes first. `cache_salt` separates
    prefix caches. `tenant`: whose it is; tenants share what there is. `until`: when it is of no
    use any more. `quota`: of the API key it came with. `num_choices`: n of the request, said with
    its first sequence; 0 with the others, so that it is counted once. `parent`: the first
    sequence's id, where n is not 1. `pooling`: a vector is wanted, and no token. `goes_on`: a later
    step of what has been taken in, which no bound turns away, and which is not counted again.
    `family`: first id of a client's request that is several sequences: all are answered, or none.

    Of a request that an earlier scheduler began: `output_ids` int32[outputs so far],
    `prompt_logprobs_end`, the prompt positions whose log-probabilities have arrived, `begun`, and
    `survived`, how many schedulers have died since it last got FURTHER.
    """

    request_id: bytes
    prompt_ids: bytes
    sampling: SamplingParams
    arrival_time: float
    priority: int = 0
    cache_salt: str = ""
    num_choices: int = 1
    pooling: PoolingParams | None = None
    output_ids: bytes = b""
    prompt_logprobs_end: int = 0
    tenant: str = ""
    until: Until = NO_HURRY
    quota: Quota | None = None
    begun: Begun = NOT_BEGUN
    parent: bytes = b""
    survived: int = 0
    goes_on: bool = False
    family: bytes = b""


class Abort(Message):
    """`reason`: stop or repetition where the frontend found in the text that they had ended."""

    request_ids: list[bytes]
    reason: FinishReason = "abort"


class PageQuery(Message):
    """Asks for what is shown to operators: Prometheus' text, or a snapshot in JSON."""

    query_id: int
    page: Literal["metrics", "snapshot"] = "metrics"


class HttpCounts(Message):
    """What the frontend has counted since the scheduler of this epoch began; another one passes
    it over."""

    counts: Counts
    epoch: int


ToScheduler: TypeAlias = Hello | Submit | Abort | PageQuery | HttpCounts


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
    phases: dict[str, float] = {}
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
    prompt_logprobs: list[PromptLogprobs] = []
    forward_seconds: float = 0.0
    pooled: list[PooledRow] = []
    graph: bool = False
    """It ran as a captured graph."""
    compilations: int = 0
    """Kernels compiled since the start was over."""
    spent: dict[str, float] = {}
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


FromWorker: TypeAlias = WorkerReady | GrammarReady | StepResult | StepFailed


# --- scheduler -> frontend ------------------------------------------------------------------


class Started(Item):
    """The request's first token is in this message; `cached_tokens` of its prompt were reused."""

    request_id: bytes
    cached_tokens: int
    begun: Begun = NOT_BEGUN


class Finished(Item):
    """The request is over; its last tokens, if any, are in this same message.

    `stop_id`: the id of `stop_ids` that ended it (it is also the last emitted token).
    `error`: a code (`numerical_error`, `overloaded`, `too_long`, `constraint_error`,
    `internal_error`, `out_of_memory`, `request_quarantined`, `deadline_exceeded`,
    `rate_limited`) with `message`,
    where reason is "error".
    """

    request_id: bytes
    reason: FinishReason
    stop_id: int | None = None
    error: str | None = None
    message: str | None = None
    retry_after: int = 1
    """Seconds, of `overloaded`, `out_of_memory` and `rate_limited`."""
    admitted_time: float = 0.0
    first_token_time: float = 0.0
    """CLOCK_MONOTONIC seconds; 0: it never got so far."""


class PromptLogprobsOutput(Item):
    request_id: bytes
    start: int
    values: Logprobs


class PooledOutput(Item):
    """The vector of a request, float32[dimensions]; it has finished."""

    request_id: bytes
    vector: bytes


class Outputs(Message):
    """What one step brought to one frontend's requests.

    `request_ids` bytes[16 n] and `token_ids` int32[n]: one new token each.
    `logprob_rows` int32[m] index them; `logprobs` are theirs. `started` and `finished` may name
    requests without a new token here. `admitted`: ids of those that run now, and had to by a
    certain time.
    """

    request_ids: bytes = b""
    token_ids: bytes = b""
    logprob_rows: bytes = b""
    logprobs: Logprobs | None = None
    prompt_logprobs: list[PromptLogprobsOutput] = []
    started: list[Started] = []
    finished: list[Finished] = []
    pooled: list[PooledOutput] = []
    admitted: list[bytes] = []


class EngineStats(Message):
    """Sent to every frontend at least twice a second: the evidence behind /health and /load.

    `epoch`: the scheduler's; a new one knows of no requests. `degraded`: there are no workers now.
    `stalled`: the step that runs takes far longer than it should.
    """

    step: int
    running: int
    waiting: int
    blocks_used: int
    blocks_total: int
    epoch: int = 0
    degraded: bool = False
    stalled: bool = False


class PageText(Message):
    query_id: int
    text: bytes


ToFrontend: TypeAlias = Outputs | EngineStats | PageText
