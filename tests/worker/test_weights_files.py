"""Which files make a checkpoint, and stored tensors that cannot be used."""

from __future__ import annotations

import json
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

INDEX = "model.safetensors.index.json"
ONE = {"x": torch.ones(1)}


def write_index(folder: Path, weight_map: object) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def test_only_indexed_files_are_read(tmp_path: Path) -> None:
    save_file(ONE, tmp_path / "a.safetensors")
    save_file({"y": torch.ones(1)}, tmp_path / "consolidated.safetensors")
    write_index(tmp_path, {"x": "a.safetensors"})
    assert set(stored_tensors(tmp_path)) == {"x"}


def test_whole_model_before_strangers(tmp_path: Path) -> None:
    save_file(ONE, tmp_path / "model.safetensors")
    save_file({"y": torch.ones(1)}, tmp_path / "consolidated.safetensors")
    assert set(stored_tensors(tmp_path)) == {"x"}


def test_tensor_in_two_files(tmp_path: Path) -> None:
    save_file(ONE, tmp_path / "a.safetensors")
    save_file(ONE, tmp_path / "b.safetensors")
    with pytest.raises(ConfigError, match=r"b\.safetensors: tensor x is in a\.safetensors too"):
        stored_tensors(tmp_path)


def test_tensor_in_another_file_than_indexed(tmp_path: Path) -> None:
    save_file(ONE, tmp_path / "a.safetensors")
    save_file({"y": torch.ones(1)}, tmp_path / "b.safetensors")
    write_index(tmp_path, {"x": "b.safetensors", "y": "a.safetensors"})
    with pytest.raises(ConfigError, match=r"tensor x is not in b\.safetensors"):
        stored_tensors(tmp_path)


def test_index_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    save_file(ONE, tmp_path / "x.safetensors")
    write_index(tmp_path / "model", {"x": "../x.safetensors"})
    with pytest.raises(ConfigError, match="no such file"):
        stored_tensors(tmp_path / "model")


@pytest.mark.parametrize("weight_map", [None, ["x"], {"x": 1}])
def test_bad_index(tmp_path: Path, weight_map: object) -> None:
    save_file(ONE, tmp_path / "a.safetensors")
    write_index(tmp_path, weight_map)
    with pytest.raises(ConfigError, match=r"index\.json: not a valid index"):
        stored_tensors(tmp_path)


def test_no_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no \*\.safetensors file"):
        stored_tensors(tmp_path)


def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(ConfigError, match=r"a\.safetensors: Is a directory"):
        stored_tensors(tmp_path)


def load(folder: Path) -> None:
    load_model(
        ModelConfig.load(folder), folder, Parallel.single(), torch.device("cpu"), torch.float32,
        "auto", 0, 64, lambda *_: None,
    )  # fmt: skip


def test_integers_are_not_weights(tmp_path: Path) -> None:
    make_checkpoint("llama", tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"] = torch.ones(64, dtype=torch.int8)
    save_file(tensors, path)
    with pytest.raises(ConfigError, match=r"model\.norm\.weight is stored as I8"):
        load(tmp_path)


def test_hole_in_the_data(tmp_path: Path) -> None:
    make_checkpoint("llama", tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes() + bytes(8))
    with pytest.raises(ConfigError, match=r"model\.safetensors: 8 bytes belong to no tensor"):
        load(tmp_path)
