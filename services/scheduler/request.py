"""Request: what the scheduler knows of one sequence from Submit to Finished.

While a request runs, its lengths and new ids live in its slot (`slots.Slots`), for they change
with every step; here is what changes seldom.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from octavo.services.scheduler.block_map import colour_of
from octavo.services.scheduler.limits import Limits
from octavo.shared.keys import Quota
from octavo.shared.messages import (
    FURTHER,
    NO_HURRY,
    REQUEST_ID_BYTES,
    Ints,
    Submit,
    Until,
    unpack,
)
from octavo.shared.pooling import PoolingParams
from octavo.shared.sampling import SamplingParams

NO_SLOT = -1
MAX_PRIORITY = 2**31 - 1


@dataclass(slots=True, eq=False)
class Request:
    """`token_ids` int32: the prompt and the outputs known when it last had no slot.

    `limit`: the sequence's greatest length. `order`: (rank, arrival, serial), less goes
    first. `keys`: prefix-cache keys of its first full blocks. `pending`: tokens still in flight
    of a request that lost its slot. Times are CLOCK_MONOTONIC seconds.
    """

    request_id: bytes
    peer: bytes
    token_ids: Ints
    prompt_len: int
    limit: int
    sampling: SamplingParams
    priority: int
    """Less goes first."""
    arrival_time: float
    order: tuple[float, float, int]
    cache_salt: str
    stop_ids: frozenset[int]
    num_choices: int = 1
    pooling: PoolingParams | None = None
    """Both as in Submit."""
    slot: int = NO_SLOT
    over: bool = False
    pending: int = 0
    block_ids: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    num_published: int = 0
    """Leading blocks that the prefix cache has been told of, or gave."""
    cached_tokens: int | None = None
    """Prompt tokens reused at the first admission; None before it."""
    admitted_by: int = 0
    """Number of the plan that last gave it a slot."""
    num_preemptions: int = 0
    prompt_logprobs_end: int = 0
    """Prompt positions before this one have had their log-probabilities sent."""
    admitted_time: float = 0.0
    first_token_time: float = 0.0
    token_time: float = 0.0
    pooled: bool = False
    """Its vector has arrived."""
    num_failures: int = 0
    """Failed steps in a row that it was in."""
    safe_len: int = 0
    """Length at which it has shown that it does no harm."""
    survived: int = 0
    """As in Submit."""
    tenant: int = 0
    """Its number (`tenants`), while it has not ended."""
    until: Until = NO_HURRY
    quota: Quota | None = None
    is_held: bool = False
    """Its trial has not begun (`trials`)."""
    parent: bytes = b""
    family: bytes = b""
    """Both as in Submit."""
    colour: int = 0
    """On the live page."""

    @property
    def serial(self) -> int:
        """How many came before it."""
        return self.order[2]

    @property
    def min_len(self) -> int:
        """Length from which a stop id ends the sequence. Under constraints the worker decides
        where one may stand."""
        min_tokens = 0 if self.sampling.is_constrained else self.sampling.min_tokens
        return self.prompt_len + min_tokens

    @property
    def num_outputs(self) -> int:
        return len(self.token_ids) - self.prompt_len

    @property
    def answered(self) -> bool:
        """Whether anything came of it."""
        return self.num_outputs > 0 or self.pooled

    def is_stop(self, token_id: int, length: int) -> bool:
        """Whether `token_id`, which made the sequence `length` long, ends it."""
        return token_id in self.stop_ids and length >= self.min_len

    @classmethod
    def of(cls, peer: bytes, submit: Submit, serial: int, limits: Limits) -> Request:
        """Raise ValueError for a bad request id, for a prompt that is empty, no int32 column, or
        holds ids that the model does not have, and for what this server's model is not for."""
        if len(submit.request_id) != REQUEST_ID_BYTES:
            raise ValueError("request id of a wrong length")
        prompt_ids = unpack(submit.prompt_ids)
        if not len(prompt_ids):
            raise ValueError("empty prompt")
        token_ids = np.concatenate([prompt_ids, unpack(submit.output_ids)])
        if token_ids.min() < 0 or token_ids.max() >= limits.vocab_size:
            raise ValueError("token id outside the vocabulary")
        if (submit.pooling is not None) != limits.pooling:
            raise ValueError("pooling on a server that generates, or the reverse")
        params = submit.sampling
        limit = limits.max_model_len
        if submit.pooling is not None:
            limit = len(prompt_ids) + 1  # the vector stands where the first output would
        elif params.max_tokens is not None:
            limit = min(limit, len(prompt_ids) + params.max_tokens)
        priority = max(-MAX_PRIORITY, min(submit.priority, MAX_PRIORITY))
        return cls(
            request_id=submit.request_id,
            peer=peer,
            token_ids=token_ids,
            prompt_len=len(prompt_ids),
            limit=limit,
            sampling=params,
            priority=priority,
            arrival_time=submit.arrival_time,
            order=(limits.rank(priority, submit.arrival_time), submit.arrival_time, serial),
            cache_salt=submit.cache_salt,
            stop_ids=params.stop_ids,
            num_choices=submit.num_choices,
            pooling=submit.pooling,
            prompt_logprobs_end=submit.prompt_logprobs_end,
            until=submit.until,
            quota=submit.quota,
            admitted_time=submit.begun.admitted,
            first_token_time=submit.begun.first_token,
            token_time=submit.begun.token,
            parent=submit.parent,
            family=submit.family,
            safe_len=len(token_ids) + FURTHER,
            survived=submit.survived,
            colour=colour_of(serial),
        )
