"""What frontends and schedulers say to one another, as tagged unions.

Numbers travel column-wise: a `bytes` field documented as `int32[n]` is the array's little-endian
memory (`pack` and `unpack`). Four crossings, in the order of a request's life:

    frontend  -> scheduler   ToScheduler   Hello | Submit | Abort | PageQuery |
                                           HttpCounts
    scheduler -> worker      ToWorker      in `steps`
    worker    -> scheduler   FromWorker    in `steps`
    scheduler -> frontend    ToFrontend    Outputs | EngineStats | PageText

Any of them may die and come back while messages are under way. An *epoch* is the supervisor's
number of a start, larger than those of all starts before it.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from octavo.shared.http_counts import Counts
from octavo.shared.keys import Quota
from octavo.shared.pooling import PoolingParams
from octavo.shared.sampling import SamplingParams

Ints: TypeAlias = npt.NDArray[np.int32]
Floats: TypeAlias = npt.NDArray[np.float32]
FinishReason: TypeAlias = Literal["stop", "length", "abort", "error", "repetition"]

REQUEST_ID_BYTES = 16
FURTHER = 2
"""Tokens more than at a failure with which a request has shown that it was not the cause: a
prompt's pass, and a step of decoding."""


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

    @property
    def prompt_len(self) -> int:
        return len(self.prompt_ids) // 4


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
