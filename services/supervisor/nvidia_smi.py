"""What nvidia-smi says of the GPUs here: CUDA itself must not be loaded in this process."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

FIELDS = ("name", "memory.total", "memory.reserved", "memory.free", "driver_version", "compute_cap")
PATIENCE = 20.0
MIB = 1 << 20


@dataclass(frozen=True)
class Gpu:
    """Bytes as CUDA counts them: what the driver keeps for itself is left out of `total`."""

    name: str
    total: int
    free: int
    driver: str
    capability: str


def list_gpus() -> list[Gpu]:
    """None where there is no nvidia-smi, or it fails."""
    command = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [gpu for line in found.stdout.splitlines() if (gpu := read_line(line)) is not None]


def read_line(line: str) -> Gpu | None:
    """`NVIDIA H200, 143771, 621, 143149, 580.159.04, 9.0`; None for a GPU that tells nothing."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != len(FIELDS) or not fields[1].isdecimal():
        return None
    total, reserved, free = (int(text) * MIB if text.isdecimal() else 0 for text in fields[1:4])
    return Gpu(fields[0], total - reserved, free, fields[4], fields[5])
