"""Broken checkpoints are refused by name before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from model_checkpoints import make_checkpoint
from safetensors.torch import load_file, save_file

from octavo.services.worker.checkpoint import stored_tensors
from octavo.services.worker.model_config import ModelConfig
from octavo.services.worker.parallel import Parallel
from octavo.services.worker.weights import load_model
from octavo.shared.errors import ConfigError


def load(path: Path) -> None:
    load_model(
        ModelConfig.load(path), path, Parallel.single(), torch.device("cpu"), torch.float32, "auto",
        0, 64, lambda *_: None,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_checkpoint("llama", tmp_path)
    return tmp_path


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_missing_tensor(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.pop("model.norm.weight"))
    with pytest.raises(ConfigError, match=r"model\.norm\.weight is missing"):
        load(folder)


def test_wrong_shape(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(3)}))
    with pytest.raises(ConfigError, match=r"model\.norm\.weight has shape \[3\], expected \[64\]"):
        load(folder)


def test_unknown_tensor(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({"model.extra": torch.ones(3)}))
    with pytest.raises(ConfigError, match=r"model\.extra is unknown"):
        load(folder)


def test_truncated_file(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="lies outside the file"):
        load(folder)


@pytest.mark.parametrize("length", [0, 2**62, 10**6])
def test_absurd_header_length(folder: Path, length: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(ConfigError, match="header length"):
        load(folder)


def write_header(path: Path, header: dict[str, object], data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, "disagree"),
        ({"dtype": "F33", "shape": [1], "data_offsets": [0, 4]}, "unknown dtype"),
        ({"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}, "disagree"),
        ({"dtype": "F32"}, "not valid"),
    ],
)
def test_bad_header(tmp_path: Path, entry: dict[str, object], complaint: str) -> None:
    write_header(tmp_path / "a.safetensors", {"x": entry}, bytes(8))
    with pytest.raises(ConfigError, match=complaint):
        stored_tensors(tmp_path)


def test_overlapping_tensors(tmp_path: Path) -> None:
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    write_header(tmp_path / "a.safetensors", {"x": one, "y": one}, bytes(8))
    with pytest.raises(ConfigError, match="overlaps"):
        stored_tensors(tmp_path)


def test_missing_shard(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model.safetensors", "lost": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match=r"lost should be in b\.safetensors"):
        load(folder)


def test_sharded_checkpoint_loads(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    (folder / "model.safetensors").unlink()
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: tensors[name] for name in part}, folder / f"part-{number}.safetensors")
    load(folder)
