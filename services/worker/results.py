"""ResultSender: a thread that waits for each step's copies and sends its StepResult.

The main thread never waits for the device; this one does nothing else.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from octavo.services.worker.compile_counter import CompileCounter
from octavo.services.worker.model_runner import Launched
from octavo.services.worker.sampler import LogprobTensors, PromptPart, Sampled
from octavo.shared.config import WORKER_SOCKET
from octavo.shared.messages import Ints, Logprobs, pack, pack_floats, unpack_floats
from octavo.shared.steps import (
    BROKEN_TOKEN,
    INVALID_TOKEN,
    NO_TOKEN,
    STUCK_TOKEN,
    PromptLogprobs,
    StepFailed,
    StepResult,
    ToWorker,
)
from octavo.shared.transport import Spoke

log = logging.getLogger(__name__)
PEER = b"results"


@dataclass(frozen=True)
class Copying:
    """A step whose results are being copied to the host; `done` None: they are there."""

    launched: Launched
    done: torch.cuda.Event | None


class ResultSender:
    """`put` from the main thread; its thread owns its socket."""

    def __init__(self, directory: Path, device: torch.device, counter: CompileCounter) -> None:
        self._counter = counter
        self._on_gpu = device.type == "cuda"
        self._queue: queue.SimpleQueue[Copying | StepFailed | None] = queue.SimpleQueue()
        self._num_put = self._num_sent = self._last_sent = 0
        self._ended = 0.0
        """When the last step had."""
        self._thread = threading.Thread(target=self._run, args=(directory,), name="results")
        self._thread.daemon = True
        self._thread.start()

    def advances(self) -> bool:
        """Whether results went out since the last call, or none is due."""
        sent, last = self._num_sent, self._last_sent
        self._last_sent = sent
        return sent > last or sent == self._num_put

    def put(self, launched: Launched | StepFailed) -> None:
        """Start the step's device-to-host copies and queue it. Where there is no pinned memory for
        them, raises, and queues nothing."""
        item = launched if isinstance(launched, StepFailed) else self._copying(launched)
        self._num_put += 1
        self._queue.put(item)

    def _copying(self, launched: Launched) -> Copying:
        host = on_host(launched)
        done = None
        if self._on_gpu:
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record()
        return Copying(host, done)

    def close(self) -> None:
        """Send what is queued, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _result(self, copying: Copying) -> StepResult:
        result = finish(copying)
        began, self._ended = max(copying.launched.started, self._ended), time.monotonic()
        return msgspec.structs.replace(
            result,
            forward_seconds=self._ended - began,
            compilations=self._counter.while_serving,
        )

    def _run(self, directory: Path) -> None:
        spoke: Spoke[StepResult | StepFailed, Any] = Spoke(directory, WORKER_SOCKET, PEER, ToWorker)
        try:
            while (copying := self._queue.get()) is not None:
                spoke.send(self._result(copying) if isinstance(copying, Copying) else copying)
                self._num_sent += 1
            spoke.close()
        except Exception:
            log.exception("the result thread failed")
            os._exit(1)


def on_host(launched: Launched) -> Launched:
    """The same with every tensor on the host."""
    pooled = None if launched.pooled is None else launched.pooled.on_host()
    return replace(launched, sampled=to_host(launched.sampled), pooled=pooled)


def to_host(sampled: Sampled) -> Sampled:
    """The same with every tensor on the host; pinned and not yet there when it was on a GPU."""
    prompt = [PromptPart(part.row, part.start, _host_all(part.values)) for part in sampled.prompt]
    return Sampled(
        ids=None if sampled.ids is None else _host(sampled.ids),
        logprob_rows=sampled.logprob_rows,
        logprobs=None if sampled.logprobs is None else _host_all(sampled.logprobs),
        prompt=prompt,
        stuck=sampled.stuck,
    )


def _host(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_cuda:
        return tensor
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)


def _host_all(values: LogprobTensors) -> LogprobTensors:
    ids, logprobs, ranks = values
    return _host(ids), _host(logprobs), _host(ranks)


def finish(copying: Copying) -> StepResult:
    """Wait for the copies; tensors become columns."""
    if copying.done is not None:
        copying.done.synchronize()
    launched = copying.launched
    rows, sampled = launched.rows, launched.sampled
    token_ids = np.full(rows.num_rows, NO_TOKEN, np.int32)
    if sampled.ids is not None:
        token_ids[rows.samples] = sampled.ids.numpy()
    token_ids[sampled.stuck] = STUCK_TOKEN
    pooled = [] if launched.pooled is None else launched.pooled.finish(rows, token_ids)
    prompt = [part for part in map(_prompt_logprobs, sampled.prompt) if _is_sound(part, token_ids)]
    token_ids[rows.broken] = BROKEN_TOKEN
    return StepResult(
        step=launched.step,
        token_ids=pack(token_ids),
        logprob_rows=pack(sampled.logprob_rows),
        logprobs=None if sampled.logprobs is None else _columns(sampled.logprobs),
        prompt_logprobs=[part for part in prompt if token_ids[part.row] != BROKEN_TOKEN],
        pooled=[one for one in pooled if token_ids[one.row] == NO_TOKEN],
        graph=launched.graph,
        spent=launched.spent,
    )


def _prompt_logprobs(part: PromptPart) -> PromptLogprobs:
    return PromptLogprobs(row=part.row, start=part.start, values=_columns(part.values))


def _is_sound(part: PromptLogprobs, token_ids: Ints) -> bool:
    """Whether they are numbers; a row of which they are not is marked in `token_ids`."""
    sound = bool(np.isfinite(unpack_floats(part.values.logprobs)).all())
    if not sound:
        token_ids[part.row] = INVALID_TOKEN
    return sound


def _columns(values: LogprobTensors) -> Logprobs:
    ids, logprobs, ranks = values
    return Logprobs(
        width=ids.shape[1],
        token_ids=pack(ids.numpy()),
        logprobs=pack_floats(logprobs.numpy()),
        ranks=pack(ranks.numpy()),
    )
