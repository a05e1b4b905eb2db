"""Failures: what an exception in a step means, and the memory that its frames held."""

from __future__ import annotations

import gc
import logging

import torch

from octavo.shared.steps import StepFailed

log = logging.getLogger(__name__)

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How CUDA's calls, torch's CPU allocator and cuBLAS say it, in a RuntimeError each."""


def lacks_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in OUT_OF_MEMORY)


def describe(step: int, error: Exception) -> StepFailed:
    """Log it, and put it in a message."""
    memory = lacks_memory(error)
    if memory:
        log.error("step %d is out of memory", step)
    else:
        log.error("step %d failed", step, exc_info=error)
    return StepFailed(step, memory)


def release_memory() -> None:
    """Give back what is cached. Raises what the device has, if it is the device that failed."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
