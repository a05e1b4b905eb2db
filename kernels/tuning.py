"""How the plain attention kernels are launched: by the file of the GPU at hand, else by its limits.

`tuned/<gpu>.json` is what `bench/tune.py` found on a GPU of that name. Whatever is chosen is made
to fit the device's shared memory, for the head size, group and dtype of a launch. The other
kernels only stream: what suits one GPU suits all, and they keep their constants.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
import triton

from octavo.kernels.attention_tiles import dim_pad
from octavo.kernels.launch import limits
from octavo.kernels.shared_memory import Tile, fitting, merge_bytes
from octavo.kernels.tuning_choices import Tuning, defaults
from octavo.shared.errors import ConfigError

FOLDER = Path(__file__).parent / "tuned"
MERGED_AT_ONCE = 8


@dataclass(frozen=True)
class DecodeLaunch:
    few: Tile
    many: Tile
    few_below: int
    merged: int
    """Partial results that are added at once."""

    def tile(self, programs: int) -> Tile:
        """Few programs hide latency by reading ahead, many by being many: then room for them
        counts."""
        return self.few if programs < self.few_below else self.many


@functools.cache
def decode_launch(
    device: torch.device, dtype: torch.dtype, head_dim: int, group: int
) -> DecodeLaunch:
    choice, limit, pad = tuning(device).decode, limits(device), dim_pad(head_dim)
    group_pad = triton.next_power_of_2(group)
    rows = max(group_pad, 16)
    few, many = (
        fitting(loops.of(head_dim, dtype).tile(rows), pad, dtype.itemsize, limit, rows)
        for loops in (choice.few, choice.many)
    )
    merged = MERGED_AT_ONCE
    while merge_bytes(group_pad, pad, merged, max(few.warps, many.warps)) > limit.shared:
        merged //= 2
    return DecodeLaunch(few, many, choice.few_per_sm * limit.sms, merged)


@functools.cache
def prefill_tile(
    device: torch.device, dtype: torch.dtype, head_dim: int, group: int, least_rows: int = 16
) -> Tile:
    """A tile of at least `least_rows` rows, and of at least one query token."""
    least_rows = max(triton.next_power_of_2(group), least_rows)
    tile = _widened(tuning(device).prefill.of(head_dim, dtype), least_rows)
    return fitting(tile, dim_pad(head_dim), dtype.itemsize, limits(device), least_rows)


def _widened(tile: Tile, rows: int) -> Tile:
    """16 rows a warp, as tensor cores have them, of up to 8 warps."""
    if rows <= tile.rows:
        return tile
    warps = max(tile.warps, 8 if rows >= 128 else 4)
    return msgspec.structs.replace(tile, rows=rows, warps=warps)


def tuning(device: torch.device) -> Tuning:
    """What holds for the device. Raises ConfigError where its file is damaged."""
    if device not in _known:
        _known[device] = _find(device)
    return _known[device]


_known: dict[torch.device, Tuning] = {}


def _find(device: torch.device) -> Tuning:
    if device.type == "cuda":
        path = file_for(torch.cuda.get_device_name(device), FOLDER)
        if path.exists():
            return load(path)
    return defaults(limits(device))


@contextlib.contextmanager
def using(device: torch.device, choice: Tuning) -> Iterator[None]:
    """Make work lists and launch by `choice` within: the tuner's way in."""
    before = tuning(device)
    try:
        _hold(device, choice)
        yield
    finally:
        _hold(device, before)


def _hold(device: torch.device, choice: Tuning) -> None:
    _known[device] = choice
    decode_launch.cache_clear()
    prefill_tile.cache_clear()


def file_for(gpu: str, folder: Path) -> Path:
    """`NVIDIA H200` -> folder/nvidia-h200.json."""
    return folder / (re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-") + ".json")


def load(path: Path) -> Tuning:
    """Raises ConfigError, naming the file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Tuning)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path}: not launch parameters: {error}") from error
