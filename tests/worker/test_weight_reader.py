"""Pieces of stored tensors arrive whole, whatever their size, slice and type."""

from __future__ import annotations

import os
from collections.abc import Callable
from math import prod
from pathlib import Path

import pytest
import torch
from model_checkpoints import make_checkpoint
from safetensors.torch import load_file, save_file

from octavo.services.worker import weight_reader
from octavo.services.worker.checkpoint import stored_tensors
from octavo.services.worker.layers.placement import Placement, whole
from octavo.services.worker.model_config import ModelConfig
from octavo.services.worker.parallel import Parallel
from octavo.services.worker.weight_reader import Piece, pieces_of, read_pieces
from octavo.services.worker.weights import load_model
from octavo.shared.errors import ConfigError

CPU = torch.device("cpu")
GPU = pytest.param(torch.device("cuda", 0), marks=pytest.mark.gpu, id="cuda")
DEVICES = pytest.mark.parametrize("device", [pytest.param(CPU, id="cpu"), GPU])
TINY = 64
"""Bytes of a staging buffer: everything here is larger."""


def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Different everywhere, and exact in every type."""
    return (torch.arange(prod(shape)) % 251).reshape(shape).to(dtype)


def read(
    folder: Path, placements: dict[str, list[Placement]], device: torch.device = CPU
) -> list[int]:
    """Read through tiny buffers; returns the bytes of each piece."""
    stored = stored_tensors(folder)
    pieces = [
        piece
        for name, places in placements.items()
        for place in places
        for piece in pieces_of(stored[name], place, TINY)
    ]
    done: list[int] = []
    read_pieces(pieces, device, done.append)
    return done


@DEVICES
@pytest.mark.parametrize("shape", [(), (1,), (7,), (33,), (1, 1), (37, 3), (5, 100), (3, 5, 7)])
@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("wanted", [torch.float16, torch.bfloat16, torch.float32])
def test_whole_tensors(
    tmp_path: Path,
    shape: tuple[int, ...],
    stored: torch.dtype,
    wanted: torch.dtype,
    device: torch.device,
) -> None:
    values = numbers(*shape, dtype=stored)
    save_file({"before": torch.ones(3), "x": values}, tmp_path / "a.safetensors")
    target = torch.full(shape, -1, dtype=wanted, device=device)
    done = read(tmp_path, {"x": [whole(target)]}, device)
    assert torch.equal(target.cpu(), values.to(wanted))
    assert sum(done) == values.numel() * values.element_size()


@DEVICES
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_slices_by_row_and_by_column(
    tmp_path: Path, dtype: torch.dtype, device: torch.device
) -> None:
    values = numbers(29, 31, dtype=torch.bfloat16)
    save_file({"x": values}, tmp_path / "a.safetensors")
    rows = torch.zeros(40, 31, dtype=dtype, device=device)  # a part of a fused parameter
    columns = torch.zeros(29, 11, dtype=dtype, device=device)
    places = [
        Placement(rows[5:12], (29, 31), 0, 17),
        Placement(rows[12:14], (29, 31), 0, 27),
        Placement(columns, (29, 31), 1, 20),
    ]
    read(tmp_path, {"x": places}, device)
    assert torch.equal(rows[5:14].cpu(), values[[*range(17, 24), 27, 28]].to(dtype))
    assert not rows[:5].any() and not rows[14:].any()
    assert torch.equal(columns.cpu(), values[:, 20:].to(dtype))


@DEVICES
def test_slices_of_three_dimensions(tmp_path: Path, device: torch.device) -> None:
    values = numbers(4, 6, 10)
    save_file({"x": values}, tmp_path / "a.safetensors")
    middle = torch.zeros(4, 2, 10, device=device)
    last = torch.zeros(4, 6, 3, device=device)
    places = [Placement(middle, (4, 6, 10), 1, 3), Placement(last, (4, 6, 10), 2, 5)]
    read(tmp_path, {"x": places}, device)
    assert torch.equal(middle.cpu(), values[:, 3:5])
    assert torch.equal(last.cpu(), values[:, :, 5:8])


def test_empty_tensors(tmp_path: Path) -> None:
    empty, hollow = torch.zeros(0, 3), torch.zeros(3, 0)
    save_file({"x": empty, "y": hollow}, tmp_path / "a.safetensors")
    assert read(tmp_path, {"x": [whole(empty)], "y": [whole(hollow)]}) == []


def test_pieces_fit_the_buffer(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1000, 10), "y": torch.zeros(2, 1000)}, tmp_path / "a.safetensors")
    stored = stored_tensors(tmp_path)
    narrow = list(pieces_of(stored["x"], whole(torch.zeros(1000, 10)), 4096))
    assert {piece.rows for piece in narrow[:-1]} == {102} and sum(p.rows for p in narrow) == 1000
    wide = list(pieces_of(stored["y"], whole(torch.zeros(2, 1000)), TINY))
    assert [piece.rows for piece in wide] == [1, 1]  # a row at least


@DEVICES
def test_more_tensors_than_threads_in_several_files(tmp_path: Path, device: torch.device) -> None:
    files = [
        {f"{file}.{i}": numbers(1 + i, 17) + file for i in range(20)} for file in range(3)
    ]  # fmt: skip
    for number, tensors in enumerate(files):
        save_file(tensors, tmp_path / f"{number}.safetensors")
    values = {name: tensor for tensors in files for name, tensor in tensors.items()}
    targets = {name: torch.zeros_like(tensor, device=device) for name, tensor in values.items()}
    read(tmp_path, {name: [whole(target)] for name, target in targets.items()}, device)
    for name, target in targets.items():
        assert torch.equal(target.cpu(), values[name]), name


@DEVICES
def test_what_initialized_a_parameter_does_not_outlast_the_reading(
    tmp_path: Path, device: torch.device
) -> None:
    values = numbers(512, 512)
    save_file({"x": values}, tmp_path / "a.safetensors")
    target = torch.empty(512, 512, device=device)
    for _ in range(200):
        target.zero_()
    read(tmp_path, {"x": [whole(target)]}, device)
    assert torch.equal(target.cpu(), values)


def one_piece(path: Path) -> Piece:
    save_file({"x": numbers(1000)}, path)
    [piece] = pieces_of(stored_tensors(path.parent)["x"], whole(torch.zeros(1000)))
    return piece


def test_a_file_that_shrinks_after_its_check(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    piece = one_piece(path)
    os.truncate(path, path.stat().st_size - 2000)
    with pytest.raises(ConfigError, match=r"a\.safetensors: tensor x: the file is shorter"):
        read_pieces([piece], CPU, lambda _: None)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    piece = one_piece(tmp_path / "a.safetensors")
    piece.tensor.path.unlink()
    with pytest.raises(ConfigError, match=r"a\.safetensors: No such file"):
        read_pieces([piece], CPU, lambda _: None)


def test_a_failing_read_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    piece = one_piece(tmp_path / "a.safetensors")
    calls: list[int] = []

    def fail(*_: object) -> int:
        calls.append(1)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.preadv", fail)
    with pytest.raises(ConfigError, match=r"a\.safetensors: tensor x: Input/output error"):
        read_pieces([piece] * 10_000, CPU, lambda _: None)
    assert len(calls) <= weight_reader.READERS


def test_short_reads_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may return less than was asked for."""
    values = numbers(1000)
    save_file({"x": values}, tmp_path / "a.safetensors")
    real: Callable[..., int] = os.preadv
    monkeypatch.setattr("os.preadv", lambda file, into, at: real(file, [into[0][:7]], at))
    target = torch.zeros(1000)
    read(tmp_path, {"x": [whole(target)]})
    assert torch.equal(target, values)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_model_on_the_gpu_equals_the_cpu_s(
    tmp_path: Path, dtype: torch.dtype, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_checkpoint("llama", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    halves = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
    save_file(halves, tmp_path / "model.safetensors")
    config = ModelConfig.load(tmp_path)
    models = [
        load_model(
            config, tmp_path, Parallel(rank, 2), device, dtype, "auto", 0, 64, lambda *_: None
        )
        for device in (CPU, torch.device("cuda", 0))
    ]
    ours, expected = (dict(model.named_parameters()) for model in reversed(models))
    for name, parameter in ours.items():
        assert torch.equal(parameter.cpu(), expected[name]), name
