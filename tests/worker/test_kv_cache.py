"""A model that cannot run is refused before it is loaded, with the numbers."""

from __future__ import annotations

import pytest
import torch

from octavo.services.worker.device import device_of
from octavo.services.worker.kv_cache import Budget, KVSpec, check_fit, count_blocks
from octavo.services.worker.memory import GIB, usable
from octavo.shared.config import EngineConfig
from octavo.shared.errors import ConfigError, ResourceBusy

SPEC = KVSpec(num_layers=32, num_kv_heads=8, head_dim=128, block_size=64, dtype=torch.bfloat16)
CONFIG = EngineConfig(model="x", max_model_len=8192)


def budget(total: float, free: float | None = None) -> Budget:
    """GiB; without `free`, nobody else uses the device."""
    whole, left = int(total * GIB), int((total if free is None else free) * GIB)
    return Budget(whole, left, usable(left, whole, CONFIG.gpu_memory_utilization))


def test_bytes_of_a_block() -> None:
    assert SPEC.bytes_per_block == 64 * 131_072


def test_what_fits_passes() -> None:
    check_fit(CONFIG, SPEC, 15 * GIB, budget(24, 16))


def test_weights_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"need 30\.00 GiB, but 22\.08 GiB of .*24\.00 GiB"):
        check_fit(CONFIG, SPEC, 30 * GIB, budget(24))


def test_a_context_that_does_not_fit_says_what_would() -> None:
    with pytest.raises(ConfigError, match=r"max_model_len 8192 .* About 4096 tokens would fit"):
        check_fit(CONFIG, SPEC, 15 * GIB, budget(15.501 / 0.92))


def test_f27_a_device_that_others_use_is_no_bad_setting() -> None:
    """It would fit; the exit code says that trying again later may help."""
    for free in (15.5, 2, 0):
        with pytest.raises(
            ResourceBusy, match=r"in use: .* of its 24\.00 GiB .*nvidia-smi"
        ) as busy:
            check_fit(CONFIG, SPEC, 15 * GIB, budget(24, free))
        assert busy.value.exit_code == 75 and len(busy.value.message.splitlines()) == 1


def test_f27_a_gpu_of_one_process_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    config = EngineConfig(device="cuda")
    with pytest.raises(ConfigError, match="Rank 0 needs a GPU: torch sees 0"):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        device_of(config, 0)
    said = ["CUDA error: CUDA-capable device(s) is/are busy or unavailable", "CUDA error: odd"]

    def refuse(rank: int) -> None:
        raise RuntimeError(said.pop(0))

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", refuse)
    with pytest.raises(ResourceBusy, match="GPU 0 is in use"):
        device_of(config, 0)
    with pytest.raises(RuntimeError, match="odd"):
        device_of(config, 0)


def test_blocks_are_what_memory_holds() -> None:
    assert count_blocks(CONFIG, SPEC, 2 * GIB) == 256
    with pytest.raises(ConfigError, match=r"64 tokens|4096 tokens"):
        count_blocks(CONFIG, SPEC, GIB // 2)


def test_an_explicit_size_wins() -> None:
    config = EngineConfig(model="x", max_model_len=64, kv_cache_memory_bytes=GIB)
    assert count_blocks(config, SPEC, 50 * GIB) == 128
    with pytest.raises(ConfigError, match=r"asks for 1\.00 GiB, but 0\.50 GiB are left"):
        count_blocks(config, SPEC, GIB // 2)


def test_allocation_has_the_caches_shape() -> None:
    spec = KVSpec(2, 3, 8, 16, torch.float32)
    caches = spec.allocate(5, torch.device("cpu"))
    assert len(caches) == 2
    assert caches[0][0].shape == (5, 3, 16, 8)
    assert sum(t.numel() * 4 for pair in caches for t in pair) == 5 * spec.bytes_per_block
