"""Build a model and fill this rank's parameters, from safetensors or with random numbers."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch

from octavo.services.worker.checkpoint import StoredTensor, stored_tensors
from octavo.services.worker.encoder_config import EncoderConfig
from octavo.services.worker.layers.placement import Placement
from octavo.services.worker.model_config import ModelConfig
from octavo.services.worker.models.registry import model_class, pooled_class
from octavo.services.worker.parallel import Parallel
from octavo.services.worker.weight_reader import FLOATS, pieces_of, read_pieces
from octavo.shared.errors import ConfigError

Progress = Callable[[int, int], None]
"""(bytes done, bytes in all)"""
Plan = dict[str, list[Placement]]
Config = ModelConfig | EncoderConfig

SECONDS_PER_REPORT = 0.05
DUMMY_STD = 0.02
IGNORED = ("rotary_emb.inv_freq", "masked_bias")


def load_model(
    config: Config,
    path: str | Path,
    parallel: Parallel,
    device: torch.device,
    dtype: torch.dtype,
    load_format: str,
    seed: int,
    max_model_len: int,
    progress: Progress,
) -> Any:
    """`build_model`, then `fill_model`."""
    model = build_model(config, parallel, device, dtype, max_model_len)
    fill_model(model, config, path, device, load_format, seed, progress)
    return model


def build_model(
    config: Config,
    parallel: Parallel,
    device: torch.device,
    dtype: torch.dtype,
    max_model_len: int,
) -> Any:
    """The architecture's model (a `CausalLM`), ready for inference but for its weights."""
    return _build(config, parallel, device, dtype, max_model_len).eval()


def blank_model(model: Any) -> None:
    """Make it safe to compute with weights that are not read yet: no NaN, no infinity."""
    for parameter in model.parameters():
        parameter.zero_()


@torch.inference_mode()  # it is per thread, and this may run in one of its own
def fill_model(
    model: Any,
    config: Config,
    path: str | Path,
    device: torch.device,
    load_format: str,
    seed: int,
    progress: Progress,
) -> None:
    """Give the model its weights.

    `load_format` "auto" reads `path`/*.safetensors, each tensor only where this rank needs it;
    "dummy" draws weights from `seed`, the same ones for any number of ranks. Raises ConfigError
    naming file and tensor for anything missing, unknown or of another shape.
    """
    plan: Plan = {}
    for name, placement in model.placements():
        plan.setdefault(name, []).append(placement)
    if load_format == "dummy":
        _fill_randomly(plan, device, seed, progress)
    else:
        stored = stored_tensors(Path(path))
        if config.pooling is not None:
            stored = model.own_tensors(stored)
        _read(plan, stored, config, Path(path), device, progress)


def weight_bytes(config: Config, parallel: Parallel, dtype: torch.dtype) -> int:
    """Bytes of one rank's parameters, without allocating them."""
    model = _build(config, parallel, torch.device("meta"), dtype, 1)
    return sum(p.numel() * p.element_size() for p in set(model.parameters()))


def _build(
    config: Config,
    parallel: Parallel,
    device: torch.device,
    dtype: torch.dtype,
    max_model_len: int,
) -> Any:
    _check_split(config, parallel)
    find = model_class if config.pooling is None else pooled_class
    with _default_dtype(dtype), device:
        model = find(config.architecture)(config, parallel, max_model_len)
    return model if device.type == "meta" else model.to(device)


def _check_split(config: Config, parallel: Parallel) -> None:
    size, kv_heads = parallel.size, config.num_kv_heads
    uneven = config.num_heads % size or config.intermediate_size % size
    if uneven or (kv_heads % size and size % kv_heads):
        raise ConfigError(
            f"tensor_parallel_size {size} does not divide the model: {config.num_heads} heads, "
            f"{kv_heads} KV heads, intermediate size {config.intermediate_size}."
        )


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _read(
    plan: Plan,
    stored: dict[str, StoredTensor],
    config: Config,
    folder: Path,
    device: torch.device,
    progress: Progress,
) -> None:
    _check(plan, stored, config, folder)
    pieces = [
        piece
        for name, placements in plan.items()
        for placement in placements
        for piece in pieces_of(stored[name], placement)
    ]
    meter = _Meter(sum(piece.num_bytes for piece in pieces), progress)
    read_pieces(pieces, device, meter.add)


class _Meter:
    """Adds up what all threads have done and reports it now and then."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._lock = threading.Lock()
        self._done, self._total = 0, total
        self._progress = progress
        self._due = 0.0

    def add(self, num_bytes: int) -> None:
        with self._lock:
            self._done += num_bytes
            if self._done == self._total or time.monotonic() >= self._due:
                self._due = time.monotonic() + SECONDS_PER_REPORT
                self._progress(self._done, self._total)


def _check(plan: Plan, stored: dict[str, StoredTensor], config: Config, folder: Path) -> None:
    for name, placements in plan.items():
        if name not in stored:
            raise ConfigError(f"{folder}: tensor {name} is missing from the checkpoint.")
        tensor, expected = stored[name], placements[0].shape
        if tensor.dtype not in FLOATS:
            raise ConfigError(f"{tensor.path}: tensor {name} is stored as {tensor.dtype}.")
        if tensor.shape != expected:
            raise ConfigError(
                f"{tensor.path}: tensor {name} has shape {list(tensor.shape)}, "
                f"expected {list(expected)}."
            )
    for name in stored.keys() - plan.keys():
        tied = name == "lm_head.weight" and config.tie_word_embeddings
        if not tied and not name.endswith(IGNORED):
            raise ConfigError(f"{stored[name].path}: tensor {name} is unknown to the model.")


def _fill_randomly(plan: Plan, device: torch.device, seed: int, progress: Progress) -> None:
    """Norm weights 1, the rest normal: each whole tensor is drawn from its name, then sliced."""
    generator = torch.Generator(device=device)
    done, total = 0, sum(_full_bytes(placements) for placements in plan.values())
    for name, placements in plan.items():
        if "norm" in name:
            placements[0].target.fill_(1.0)
        else:
            generator.manual_seed(seed + zlib.crc32(name.encode()))
            _draw(placements, generator)
        done += _full_bytes(placements)
        progress(done, total)


def _draw(placements: list[Placement], generator: torch.Generator) -> None:
    target = placements[0].target
    drawn = torch.empty(placements[0].shape, dtype=target.dtype, device=target.device)
    drawn.normal_(0.0, DUMMY_STD, generator=generator)
    for placement in placements:
        part = drawn.narrow(placement.dim, placement.start, placement.target.shape[placement.dim])
        placement.target.copy_(part)


def _full_bytes(placements: list[Placement]) -> int:
    return prod(placements[0].shape) * placements[0].target.element_size()
