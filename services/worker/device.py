"""The device of a rank, or why it has none."""

from __future__ import annotations

import torch

from octavo.shared.config import EngineConfig
from octavo.shared.errors import ConfigError, ResourceBusy

BUSY = "busy or unavailable"
"""CUDA's words, of a GPU that takes one process at a time and has one, or is being reset."""


def device_of(config: EngineConfig, rank: int) -> torch.device:
    """Raises ConfigError where there is no such GPU, ResourceBusy where it is somebody else's."""
    if config.device != "cuda":
        return torch.device("cpu")
    if torch.cuda.device_count() <= rank:
        raise ConfigError(f"Rank {rank} needs a GPU: torch sees {torch.cuda.device_count()}.")
    try:
        torch.cuda.set_device(rank)
    except RuntimeError as error:
        if BUSY not in str(error):
            raise
        raise ResourceBusy(
            f"GPU {rank} is in use by another process (nvidia-smi shows it): stop it, or choose "
            "another GPU with CUDA_VISIBLE_DEVICES."
        ) from error
    return torch.device("cuda", rank)
