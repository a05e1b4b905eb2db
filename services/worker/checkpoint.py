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
INDEX = "model.safetensors.index.json"
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
    "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip


class Entry(msgspec.Struct):
    """One tensor in a header."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class Index(msgspec.Struct):
    """A sharded checkpoint's index: the file of every tensor."""

    weight_map: dict[str, str]


@dataclass(frozen=True)
class StoredTensor:
    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """Where its bytes begin in the file."""
    num_bytes: int


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the checkpoint. Raises ConfigError naming file and tensor.

    The index says which files belong to it, then model.safetensors, then all *.safetensors:
    some repositories carry the same weights in another format beside.
    """
    weight_map = _weight_map(folder / INDEX)
    tensors: dict[str, StoredTensor] = {}
    for path in _files(folder, weight_map):
        for name, tensor in _read_header(path).items():
            if name in tensors:
                raise ConfigError(f"{path}: tensor {name} is in {tensors[name].path.name} too.")
            tensors[name] = tensor
    for name, file in weight_map.items():
        if name not in tensors or tensors[name].path.name != file:
            raise ConfigError(f"{folder / INDEX}: tensor {name} is not in {file}.")
    return tensors


def _weight_map(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=Index).weight_map
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not a valid index: {error}") from error


def _files(folder: Path, weight_map: dict[str, str]) -> list[Path]:
    present = {path.name: path for path in sorted(folder.glob("*.safetensors"))}
    for name, file in weight_map.items():
        if file not in present:  # a name with a path in it never is
            raise ConfigError(f"{folder / INDEX}: tensor {name} should be in {file}: no such file.")
    wanted = set(weight_map.values()) or {"model.safetensors"} & present.keys() or set(present)
    if not wanted:
        raise ConfigError(f"{folder}: no *.safetensors file.")
    return [present[file] for file in sorted(wanted)]


def _read_header(path: Path) -> dict[str, StoredTensor]:
    try:
        size, header_bytes = _header_bytes(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    header = _decode(path, header_bytes)
    data = 8 + len(header_bytes)
    _check_offsets(path, header, size - data)
    return {name: _stored(path, name, entry, data) for name, entry in header.items()}


def _stored(path: Path, name: str, entry: Entry, data: int) -> StoredTensor:
    first, last = entry.data_offsets
    return StoredTensor(path, name, entry.dtype, tuple(entry.shape), data + first, last - first)


def _header_bytes(path: Path) -> tuple[int, bytes]:
    """(size of the file, its header)."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(MAX_HEADER, size - 8):
            raise ConfigError(
                f"{path}: header length {length} does not fit a file of {size} bytes."
            )
        return size, file.read(length)


def _decode(path: Path, data: bytes) -> dict[str, Entry]:
    try:
        raw: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
        raw.pop("__metadata__", None)
        return msgspec.convert(raw, dict[str, Entry])
    except (ValueError, RecursionError) as error:
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
    used = sum(entry.data_offsets[1] - entry.data_offsets[0] for entry in header.values())
    if used != data_bytes:  # the format allows no holes: the file is not what its writer meant
        raise ConfigError(f"{path}: {data_bytes - used} bytes belong to no tensor.")
