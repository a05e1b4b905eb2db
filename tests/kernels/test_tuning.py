"""Launch parameters: found by the GPU's name or its limits, and made to fit its shared memory."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from octavo.kernels import prefix_attention, tuning
from octavo.kernels.launch import NO_DEVICE, Limits
from octavo.kernels.shared_memory import Tile, attend_bytes, merge_bytes
from octavo.kernels.tuning_choices import Loop, defaults
from octavo.shared.errors import ConfigError

GPUS = {
    "NVIDIA A100-SXM4-80GB": Limits(108, 163 << 10, from_shared=False),
    "NVIDIA H100 80GB HBM3": Limits(132, 227 << 10, from_shared=True),
    "NVIDIA H200": Limits(132, 227 << 10, from_shared=True),
    "NVIDIA L40S": Limits(142, 99 << 10, from_shared=False),
    "NVIDIA GeForce RTX 4090": Limits(128, 99 << 10, from_shared=False),
    "something small": Limits(20, 48 << 10, from_shared=False),
}
DEVICE = torch.device("cuda", 0)
SHAPES = list(
    itertools.product((torch.bfloat16, torch.float32), (16, 64, 80, 96, 128, 192, 256), (1, 4, 16))
)


def _forget() -> None:
    tuning._known.clear()
    tuning.decode_launch.cache_clear()
    tuning.prefill_tile.cache_clear()
    prefix_attention.tile_of.cache_clear()


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Limits]]:
    """Pretend that DEVICE is the GPU of that name."""

    def pretend(name: str) -> Limits:
        limits = GPUS[name]
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
        monkeypatch.setattr(tuning, "limits", lambda _: limits)
        monkeypatch.setattr(prefix_attention, "limits", lambda _: limits)
        _forget()
        return limits

    yield pretend
    _forget()


@pytest.mark.parametrize("name", GPUS)
def test_every_launch_fits(name: str, on_gpu: Callable[[str], Limits]) -> None:
    limits = on_gpu(name)
    for dtype, head_dim, group in SHAPES:
        dim = max(1 << (head_dim - 1).bit_length(), 16)
        decode = tuning.decode_launch(DEVICE, dtype, head_dim, group)
        prefill = tuning.prefill_tile(DEVICE, dtype, head_dim, group)
        prefix = prefix_attention.tile_of(group, head_dim, dtype, DEVICE)
        assert decode.few.rows == decode.many.rows == 16
        assert prefill.rows >= group and prefix.rows >= group
        for tile in (decode.few, decode.many, prefill, prefix):
            needed = attend_bytes(tile, dim, dtype.itemsize, limits.from_shared)
            assert needed <= limits.shared, (dtype, head_dim, group, tile)
        assert merge_bytes(group, dim, decode.merged, 4) <= limits.shared


@pytest.mark.parametrize("group", [32, 64, 128])
def test_large_groups_fit_where_they_can(group: int, on_gpu: Callable[[str], Limits]) -> None:
    limits = on_gpu("NVIDIA L40S")
    launch = tuning.decode_launch(DEVICE, torch.bfloat16, 128, group)
    for tile in (launch.few, launch.many):
        assert tile.rows == group
        assert attend_bytes(tile, 128, 2, limits.from_shared) <= limits.shared
    assert merge_bytes(group, 128, launch.merged, 4) <= limits.shared
    assert tuning.prefill_tile(DEVICE, torch.bfloat16, 128, group).rows >= group


def test_an_h200_is_launched_as_it_was_measured(on_gpu: Callable[[str], Limits]) -> None:
    """The constants that the code had before there was a choice."""
    on_gpu("NVIDIA H200")
    for dtype, head_dim, group in SHAPES:
        wide, exact = head_dim > 128, dtype == torch.float32
        decode = tuning.decode_launch(DEVICE, dtype, head_dim, group)
        assert decode.few == Tile(16, 64, 4, 1 if exact else 2 if wide else 4)
        assert decode.many == Tile(16, 64, 4, 1 if exact else 2)
        assert (decode.few_below, decode.merged) == (4 * 132, 8)
        prefill = tuning.prefill_tile(DEVICE, dtype, head_dim, group)
        half = Tile(64, 64, 4, 2) if wide else Tile(128, 64, 8, 2)
        assert prefill == (Tile(32, 32, 4, 1) if exact else half)
        prefix = prefix_attention.tile_of(group, head_dim, dtype, DEVICE)
        assert prefix == Tile(64, 64, 4, 1 if exact else 2)
    assert tuning.tuning(DEVICE).decode.programs_per_sm == 2


def test_the_h200_s_file_says_what_its_limits_say() -> None:
    written = tuning.load(tuning.file_for("NVIDIA H200", tuning.FOLDER))
    assert msgspec.structs.replace(written, made_with={}) == defaults(NO_DEVICE)


def test_files_are_named_after_their_gpu() -> None:
    for path in tuning.FOLDER.iterdir():
        assert tuning.file_for(tuning.load(path).made_with["gpu"], tuning.FOLDER) == path


def test_ahead_as_far_as_two_programs_have_room() -> None:
    few = {name: defaults(limits).decode.few for name, limits in GPUS.items()}
    assert few["NVIDIA A100-SXM4-80GB"].narrow == Loop(64, 4, 3)
    assert few["NVIDIA L40S"].narrow == Loop(64, 4, 2)
    assert few["NVIDIA L40S"].wide == Loop(32, 4, 2)
    assert few["something small"].narrow == Loop(32, 4, 2)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("NVIDIA H200", "nvidia-h200.json"),
        ("NVIDIA GeForce RTX 4090", "nvidia-geforce-rtx-4090.json"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "nvidia-h100-80gb-hbm3-mig-1g-10gb.json"),
        ("../Odd (name)", "odd-name.json"),
    ],
)
def test_names_of_files(name: str, file: str) -> None:
    assert tuning.file_for(name, Path("x")) == Path("x") / file


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Path]:
    """Write the file of the L40S."""
    monkeypatch.setattr(tuning, "FOLDER", tmp_path)

    def write(content: Any) -> Path:
        path = tmp_path / "nvidia-l40s.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def _builtins() -> dict[str, Any]:
    content: dict[str, Any] = msgspec.to_builtins(defaults(GPUS["NVIDIA L40S"]))
    return content


def test_the_file_of_the_gpu_decides_and_is_read_once(
    on_gpu: Callable[[str], Limits], written: Callable[[Any], Path]
) -> None:
    on_gpu("NVIDIA L40S")
    content = _builtins()
    content["decode"]["programs_per_sm"] = 3
    content["prefill"]["narrow"] = {"rows": 128, "keys": 64, "warps": 8, "stages": 3}
    path = written(content)
    found = tuning.tuning(DEVICE)
    assert found.decode.programs_per_sm == 3
    path.unlink()
    assert tuning.tuning(DEVICE) is found
    # Three stages of 128 rows are more than an L40S has room for: two are launched.
    tile = tuning.prefill_tile(DEVICE, torch.bfloat16, 128, 4)
    assert tile == Tile(128, 64, 8, 2)
    assert tuning.prefill_tile(DEVICE, torch.bfloat16, 128, 4) is tile


def _changed(*path: str, value: Any) -> dict[str, Any]:
    content = _builtins()
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "truncated"),
        ("[]", "object"),
        ({}, "decode"),
        (_changed("decode", "speed", value=1), "speed"),
        (_changed("decode", "few", "narrow", "keys", value=48), "keys"),
        (_changed("decode", "many", "wide", "stages", value=0), "stages"),
        (_changed("decode", "programs_per_sm", value="2"), "programs_per_sm"),
        (_changed("prefill", "narrow", "rows", value=96), "rows"),
    ],
)
def test_a_damaged_file_is_named(
    content: Any,
    complaint: str,
    on_gpu: Callable[[str], Limits],
    written: Callable[[Any], Path],
) -> None:
    on_gpu("NVIDIA L40S")
    written(content)
    with pytest.raises(ConfigError, match=rf"nvidia-l40s\.json.*{complaint}"):
        tuning.tuning(DEVICE)


def test_more_rows_take_more_warps(on_gpu: Callable[[str], Limits]) -> None:
    on_gpu("NVIDIA H100 80GB HBM3")
    small = Tile(64, 32, 4, 2)
    choice = defaults(GPUS["NVIDIA H200"])
    kinds = msgspec.structs.replace(choice.prefill, narrow=small)
    with tuning.using(DEVICE, msgspec.structs.replace(choice, prefill=kinds)):
        assert tuning.prefill_tile(DEVICE, torch.float16, 128, 8) == small
        assert tuning.prefill_tile(DEVICE, torch.float16, 128, 8, 128) == Tile(128, 32, 8, 2)
    assert tuning.prefill_tile(DEVICE, torch.float16, 128, 8) == Tile(128, 64, 8, 2)


def test_the_choice_before_comes_back() -> None:
    device = torch.device("cpu")
    before, other = tuning.tuning(device), defaults(GPUS["NVIDIA L40S"])
    with pytest.raises(KeyError), tuning.using(device, other):
        assert tuning.tuning(device) is other
        raise KeyError
    assert tuning.tuning(device) is before
