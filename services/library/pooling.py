"""Vectors from the library: requests that pool, and what they return, with vLLM's names."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from octavo.llm.engine import Engine
from octavo.shared.errors import EngineDead, InvalidRequest, RequestFailed
from octavo.shared.messages import (
    REQUEST_ID_BYTES,
    Abort,
    Finished,
    Floats,
    Outputs,
    Submit,
    pack,
    unpack_floats,
)
from octavo.shared.pooling import PoolingInfo, PoolingParams, PoolingTask
from octavo.shared.sampling import SamplingParams

T = TypeVar("T")
NOTHING_SAMPLED = SamplingParams(temperature=0.0, max_tokens=1)


@dataclass
class PoolingOutput:
    """A text's vector as the model gives it."""

    data: Floats


@dataclass
class EmbeddingOutput:
    embedding: list[float]

    @property
    def hidden_size(self) -> int:
        return len(self.embedding)


@dataclass
class ClassificationOutput:
    probs: list[float]

    @property
    def num_classes(self) -> int:
        return len(self.probs)


@dataclass
class ScoringOutput:
    score: float


@dataclass
class PoolingRequestOutput(Generic[T]):
    """What was made of one prompt. `prompt_token_ids` of a pair are those of both texts."""

    request_id: str
    outputs: T
    prompt_token_ids: list[int] = field(default_factory=list)
    num_cached_tokens: int = 0
    finished: bool = True


@dataclass(frozen=True)
class PoolingJob:
    token_ids: list[int]
    params: PoolingParams


def require_pooling(info: PoolingInfo | None, *tasks: PoolingTask) -> PoolingInfo:
    """Raise InvalidRequest where the model is not loaded for one of these tasks."""
    if info is None:
        raise InvalidRequest('This model generates. For vectors, load it with runner="pooling".')
    if info.task not in tasks:
        raise InvalidRequest(f"This model's task is {info.task}, not {' or '.join(tasks)}.")
    return info


def run_pooling(
    engine: Engine, jobs: Sequence[PoolingJob], on_finished: Callable[[], object]
) -> list[Floats]:
    """The vector of each job, in order; `on_finished` is called after each.

    Raises RequestFailed for the first that the engine could not do, EngineDead if a process
    dies. Whatever the way out, no request is left running.
    """
    live = {os.urandom(REQUEST_ID_BYTES): number for number in range(len(jobs))}
    vectors: dict[int, Floats] = {}
    try:
        for request_id, number in live.items():
            engine.send(_submit(request_id, jobs[number]))
        while live:
            outputs = engine.receive()
            _take_vectors(outputs, live, vectors)
            for end in outputs.finished:
                if live.pop(end.request_id, None) is not None:
                    _raise_for(end)
                    on_finished()
    except BaseException:
        with contextlib.suppress(EngineDead):
            engine.send(Abort(request_ids=list(live)))
        raise
    return [vectors[number] for number in range(len(jobs))]


def _submit(request_id: bytes, job: PoolingJob) -> Submit:
    return Submit(
        request_id=request_id,
        prompt_ids=pack(job.token_ids),
        sampling=NOTHING_SAMPLED,
        arrival_time=time.monotonic(),
        pooling=job.params,
    )


def _take_vectors(outputs: Outputs, live: dict[bytes, int], vectors: dict[int, Floats]) -> None:
    for pooled in outputs.pooled:
        if (number := live.get(pooled.request_id)) is not None:
            vectors[number] = unpack_floats(pooled.vector)


def _raise_for(end: Finished) -> None:
    if end.reason == "error":
        raise RequestFailed(end.message or "The engine failed on a prompt.", code=end.error)
