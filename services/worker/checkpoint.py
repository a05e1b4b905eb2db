"""Safetensors files of a checkpoint folder: which tensor is where, checked before it is used.

Only the format's header is trusted after its own check: length, names, dtypes, shapes, and
offsets that lie inside the file and do not overlap.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import msgspec

from octavo.shared.errors import ConfigError

MAX_HEADER = 100 << 20
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
    "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip


class Entry(msgspec.Struct):
    """One tensor in a header."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


@dataclass(frozen=True)
class StoredTensor:
    path: Path
    name: str
    shape: tuple[int, ...]
    num_bytes: int


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the folder's files. Raises ConfigError naming file and tensor."""
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ConfigError(f"{folder}: no *.safetensors file.")
    tensors: dict[str, StoredTensor] = {}
    for path in paths:
        tensors.update(_read_header(path))
    _check_index(folder, tensors)
    return tensors


def _read_header(path: Path) -> dict[str, StoredTensor]:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(MAX_HEADER, size - 8):
            raise ConfigError(
                f"{path}: header length {length} does not fit a file of {size} bytes."
            )
        header = _decode(path, file.read(length))
    _check_offsets(path, header, size - 8 - length)
    return {
        name: StoredTensor(
            path, name, tuple(entry.shape), entry.data_offsets[1] - entry.data_offsets[0]
        )
        for name, entry in header.items()
    }


def _decode(path: Path, data: bytes) -> dict[str, Entry]:
    try:
        raw: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
        raw.pop("__metadata__", None)
        return msgspec.convert(raw, dict[str, Entry])
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: the header is not valid: {error}") from error


def _check_offsets(path: Path, header: dict[str, Entry], data_bytes: int) -> None:
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1].data_offsets):
        first, last = entry.data_offsets
        item = ITEM_BYTES.get(entry.dtype)
        if item is None:
            raise ConfigError(f"{path}: tensor {name} has unknown dtype {entry.dtype!r}.")
        if min(entry.shape, default=0) < 0 or last - first != item * prod(entry.shape):
            raise ConfigError(f"{path}: tensor {name}: shape and byte count disagree.")
        if first < end or last > data_bytes:
            raise ConfigError(f"{path}: tensor {name} overlaps another or lies outside the file.")
        end = last


def _check_index(folder: Path, tensors: dict[str, StoredTensor]) -> None:
    """A sharded checkpoint's index names every tensor: a missing shard shows here."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return
    try:
        weight_map = msgspec.json.decode(index.read_bytes())["weight_map"]
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"{index}: not a valid index.") from error
    for name, file in weight_map.items():
        if name not in tensors:
            raise ConfigError(f"{index}: tensor {name} should be in {file}, which lacks it.")
