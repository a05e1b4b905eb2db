"""Staging: what a step tells the device, in one host-to-device copy.

Named columns share one buffer. The host fills numpy views of a pinned buffer out of a small ring
(so that the copy of a step in flight is not overwritten); the device sees fixed addresses, as
CUDA graphs need. On the CPU both sides are the same memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

ALIGN = 64
RING = 4


@dataclass(frozen=True)
class Column:
    dtype: torch.dtype
    size: int

    @property
    def num_bytes(self) -> int:
        return -(-self.size * self.dtype.itemsize // ALIGN) * ALIGN


class Staging:
    """Columns by name. The last one is variable: only its used part is copied."""

    def __init__(self, columns: dict[str, Column], device: torch.device) -> None:
        self._columns = columns
        self._on_gpu = device.type == "cuda"
        total = sum(column.num_bytes for column in columns.values())
        depth = RING if self._on_gpu else 1
        self._hosts = [
            torch.zeros(total, dtype=torch.uint8, pin_memory=self._on_gpu) for _ in range(depth)
        ]
        self._device = torch.zeros_like(self._hosts[0], device=device)
        if not self._on_gpu:
            self._device = self._hosts[0]
        self._views = [_numpy_views(host, columns) for host in self._hosts]
        self._copied: list[torch.cuda.Event | None] = [None] * depth
        self._turn = 0
        self.device: dict[str, torch.Tensor] = _torch_views(self._device, columns)

    def begin(self) -> dict[str, npt.NDArray[np.generic]]:
        """The host columns of the next step, free to be written."""
        self._turn = (self._turn + 1) % len(self._hosts)
        if (event := self._copied[self._turn]) is not None:
            event.synchronize()
        return self._views[self._turn]

    def upload(self, last_used: int) -> None:
        """Start the copy of everything, with `last_used` elements of the last column."""
        if not self._on_gpu:
            return
        *head, last = self._columns.values()
        used = sum(column.num_bytes for column in head) + last_used * last.dtype.itemsize
        self._device[:used].copy_(self._hosts[self._turn][:used], non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._copied[self._turn] = event


def _torch_views(buffer: torch.Tensor, columns: dict[str, Column]) -> dict[str, torch.Tensor]:
    views = {}
    offset = 0
    for name, column in columns.items():
        data = buffer[offset : offset + column.size * column.dtype.itemsize]
        views[name] = data.view(column.dtype)
        offset += column.num_bytes
    return views


def _numpy_views(
    buffer: torch.Tensor, columns: dict[str, Column]
) -> dict[str, npt.NDArray[np.generic]]:
    return {name: view.numpy() for name, view in _torch_views(buffer, columns).items()}


def to_device(host: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy that the host does not wait for; for what is too rare to have a column."""
    if device.type != "cuda":
        return host
    return host.pin_memory().to(device, non_blocking=True)
