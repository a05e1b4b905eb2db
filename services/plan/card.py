"""The device that a plan is for: a GPU by name or size, the one that is here, or this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass

from octavo.services.supervisor.nvidia_smi import list_gpus
from octavo.services.worker.memory import GIB, host_memory
from octavo.shared.errors import ConfigError

GIB_OF = {
    "B300": 267.7, "B200": 178.3, "GH200": 94.5, "H200": 139.8, "H20": 94.9, "H100": 79.1,
    "H100-NVL": 93.0, "A100-80": 79.1, "A100-40": 39.4, "A100": 79.1, "A800": 79.1, "L40S": 44.4,
    "L40": 44.4, "L20": 44.4, "L4": 22.0, "A40": 44.4, "A30": 23.5, "A10": 22.0, "A10G": 22.0,
    "A6000": 47.4, "6000-ADA": 47.4, "PRO-6000": 94.9, "5090": 31.3, "5080": 15.4, "4090": 23.5,
    "4080": 15.6, "3090": 23.6, "T4": 14.6, "V100": 31.7,
}  # fmt: skip
"""What CUDA finds on each: less than its name says, for the driver and ECC take their part."""
CONTEXT = 600 << 20
"""What CUDA takes of an empty GPU before a worker asks how much is free."""


@dataclass(frozen=True)
class Card:
    name: str
    total: int
    free: int
    """When a worker starts."""
    is_gpu: bool = True


def named_card(text: str) -> Card:
    """`H100`, `rtx4090`, or a size in GiB: `80`, `80GiB`. Raises ConfigError."""
    size = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:gib?|gb)?", text.strip(), re.IGNORECASE)
    name = re.sub(r"^(NVIDIA|RTX|GEFORCE|[\s_-])+", "", text.strip().upper()).replace("_", "-")
    name = re.sub(r"-?(80|40)GI?B$", r"-\1", name)
    if name in GIB_OF:
        return _empty(name, GIB_OF[name])
    if size is not None and float(size[1]) > 0:
        return _empty(f"{size[1]} GiB GPU", float(size[1]))
    known = ", ".join(GIB_OF)
    raise ConfigError(f"--gpu {text}: not known. Give its GiB, or one of {known}")


def _empty(name: str, gib: float) -> Card:
    total = int(gib * GIB)
    return Card(name, total, total - CONTEXT)


def present_card() -> Card:
    """The smallest GPU of this machine. Raises ConfigError where there is none."""
    gpus = list_gpus()
    if not gpus:
        raise ConfigError(
            "no GPU here: say which one to plan for (--gpu H100, --gpu 24), or --device cpu"
        )
    gpu = min(gpus, key=lambda gpu: gpu.free)
    return Card(gpu.name, gpu.total, max(gpu.free - CONTEXT, 0))


def host_card() -> Card:
    free, total = host_memory()
    return Card("CPU", total, free, is_gpu=False)
