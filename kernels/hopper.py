"""Where the kernels in Gluon run: Hopper only, and Triton versions that have what they need."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

import torch


@functools.cache
def hopper_module(name: str, device: torch.device) -> ModuleType | None:
    """octavo.kernels.`name`, where the GPU and the installed Triton can run it."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] != 9:
        return None
    try:
        return importlib.import_module(f"octavo.kernels.{name}")
    except (ImportError, AttributeError):  # Gluon is experimental: names come and go
        return None
