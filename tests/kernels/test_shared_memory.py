"""What the formulas say of shared memory, against what Triton compiles for GPUs of each kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from octavo.kernels.launch import Limits
from octavo.kernels.shared_memory import Tile, attend_bytes, fits_often, fitting, merge_bytes

SUPPORT = Path(__file__).parents[1] / "support"
ADA = Limits(142, 99 << 10, from_shared=False)

COMPILED = [
    (Tile(16, 64, 4, 1), 128, 2, False, 22528),
    (Tile(16, 64, 4, 2), 128, 2, False, 38912),
    (Tile(16, 64, 4, 4), 128, 2, True, 104448),
    (Tile(16, 64, 4, 3), 64, 2, False, 36864),
    (Tile(32, 64, 4, 2), 256, 2, False, 86016),
    (Tile(64, 64, 4, 2), 256, 2, False, 106496),
    (Tile(64, 32, 4, 2), 256, 2, False, 69632),
    (Tile(128, 64, 8, 2), 128, 2, False, 65536),
    (Tile(128, 64, 8, 2), 128, 2, True, 98304),
    (Tile(64, 64, 4, 2), 256, 2, True, 163840),
    (Tile(16, 64, 4, 1), 256, 4, False, 147456),
    (Tile(16, 16, 4, 1), 256, 4, False, 49152),
    (Tile(32, 32, 4, 1), 256, 4, True, 98304),
    (Tile(64, 32, 4, 1), 64, 4, False, 33024),
    (Tile(64, 64, 4, 2), 128, 4, False, 114944),
]
"""(tile, head size, bytes of a number, from shared memory) -> bytes, by Triton 3.6."""


@pytest.mark.parametrize(("tile", "dim", "itemsize", "from_shared", "compiled"), COMPILED)
def test_tiles(tile: Tile, dim: int, itemsize: int, from_shared: bool, compiled: int) -> None:
    assert compiled <= attend_bytes(tile, dim, itemsize, from_shared) <= 1.3 * compiled


@pytest.mark.parametrize(
    ("group", "dim", "warps", "compiled"),
    [(32, 64, 4, 32768), (32, 128, 4, 65536), (64, 256, 4, 131072), (16, 256, 8, 65536)],
)
def test_merges(group: int, dim: int, warps: int, compiled: int) -> None:
    assert merge_bytes(group, dim, 8, warps) == compiled
    assert merge_bytes(group, dim, 1, warps) == 0


def test_what_fits_stays() -> None:
    tile = Tile(64, 64, 4, 2)
    assert fitting(tile, 128, 2, ADA) is tile


def test_stages_go_first_then_keys_then_rows() -> None:
    tile = Tile(64, 64, 4, 4)
    assert fitting(tile, 128, 2, ADA) == Tile(64, 64, 4, 3)
    assert fitting(tile, 256, 2, ADA) == Tile(64, 32, 4, 2)
    small = Limits(20, 20 << 10, from_shared=False)
    assert fitting(tile, 128, 2, small) == Tile(32, 16, 4, 1)
    assert fitting(tile, 128, 2, small, least_rows=64) == Tile(64, 16, 4, 1)


def test_programs_beside_each_other() -> None:
    tile = Tile(16, 64, 4, 2)
    assert fits_often(tile, 128, 2, ADA, 2)
    assert not fits_often(tile, 128, 2, ADA, 3)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("arch", "limits"),
    [
        (80, Limits(108, 163 << 10, from_shared=False)),
        (89, ADA),
        (90, Limits(132, 227 << 10, from_shared=True)),
    ],
)
def test_every_launch_compiles_and_fits(arch: int, limits: Limits, tmp_path: Path) -> None:
    for launch in _compiled(arch, limits, tmp_path):
        assert launch["shared"] <= limits.shared, launch
        constants = launch["constants"]
        if "BLOCK_M" in constants:
            needed = _formula(launch, constants, limits)
            assert launch["shared"] <= needed, launch
            # Blocks smaller than a tile keep Triton from reading ahead as far as it was told to.
            assert constants["BLOCK_SIZE"] < 64 or needed <= 1.6 * launch["shared"], launch


def _formula(launch: dict[str, Any], constants: dict[str, Any], limits: Limits) -> int:
    tile = Tile(constants["BLOCK_M"], constants["TILE"], launch["warps"], launch["stages"])
    dim = constants["DIM_PAD"]
    needed = attend_bytes(tile, dim, launch["itemsize"], limits.from_shared)
    if "MERGED" not in constants:
        return needed
    merge = merge_bytes(constants["GROUP_PAD"], dim, constants["MERGED"], launch["warps"])
    return max(needed, merge)


def _compiled(arch: int, limits: Limits, cache: Path) -> list[dict[str, Any]]:
    """In another process: in this one kernels are interpreted."""
    script = [sys.executable, "-W", "ignore", str(SUPPORT / "kernel_compiling.py")]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*script, str(arch), str(limits.sms), str(limits.shared)],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
    )
    launches: list[dict[str, Any]] = json.loads(done.stdout)
    return launches
