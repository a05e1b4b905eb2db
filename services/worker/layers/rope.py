"""Rotary tables for every scaling that the supported checkpoints use.

RoPE: Su et al., 2021; linear: Chen et al., 2023; dynamic NTK: u/emozilla, 2023; YaRN: Peng et
al., 2023; llama3: Llama 3.1's release; LongRoPE: Ding et al., 2024. Parameters and their defaults
are transformers'.

Dynamic and LongRoPE frequencies depend on the sequence's length in transformers. Cached keys are
shared between requests, so ours depend on `max_model_len` alone: the table is the one that
transformers would use for a sequence of that many tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from octavo.services.worker.model_config import RopeConfig
from octavo.shared.errors import ConfigError

Frequencies = tuple[torch.Tensor, float]
"""float32[rotary_dim / 2] radians per position, and the factor on cosines and sines."""


def rotary_table(rope: RopeConfig, max_model_len: int) -> torch.Tensor:
    """float32 [max_model_len, rotary_dim]: cosines, then sines, attention factor folded in.

    Raises ConfigError for an unknown kind or a missing parameter.
    """
    compute = KINDS.get(rope.kind)
    if compute is None:
        known = ", ".join(sorted(KINDS))
        raise ConfigError(f"config.json: rope type {rope.kind!r} is not supported ({known} are).")
    try:
        frequencies, factor = compute(rope, max_model_len)
    except KeyError as error:
        raise ConfigError(f"config.json: rope type {rope.kind} needs {error.args[0]!r}.") from error
    angles = torch.outer(torch.arange(max_model_len).float(), frequencies)
    return torch.cat([angles.cos(), angles.sin()], dim=-1) * factor


def _plain(theta: float, rope: RopeConfig) -> torch.Tensor:
    exponents = torch.arange(0, rope.rotary_dim, 2).float() / rope.rotary_dim
    return 1.0 / theta**exponents


def _default(rope: RopeConfig, max_model_len: int) -> Frequencies:
    return _plain(rope.theta, rope), 1.0


def _linear(rope: RopeConfig, max_model_len: int) -> Frequencies:
    return _plain(rope.theta, rope) / rope.parameters["factor"], 1.0


def _dynamic(rope: RopeConfig, max_model_len: int) -> Frequencies:
    """The base grows with the length past what the model was trained on."""
    factor, trained = rope.parameters["factor"], rope.max_position_embeddings
    stretch = factor * max(max_model_len, trained) / trained - (factor - 1)
    return _plain(rope.theta * stretch ** (rope.rotary_dim / (rope.rotary_dim - 2)), rope), 1.0


def _llama3(rope: RopeConfig, max_model_len: int) -> Frequencies:
    """Long wavelengths are slowed by `factor`, short ones kept, those between blended."""
    low, high = rope.parameters["low_freq_factor"], rope.parameters["high_freq_factor"]
    frequencies = _plain(rope.theta, rope)
    turns = rope.original_max * frequencies / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return frequencies * (kept + (1.0 - kept) / rope.parameters["factor"]), 1.0


def _yarn(rope: RopeConfig, max_model_len: int) -> Frequencies:
    """Dimensions that turn often are kept, slow ones interpolated, a ramp in between."""
    given = rope.parameters
    factor = given.get("factor") or rope.max_position_embeddings / rope.original_max
    first = _turning_dim(given.get("beta_fast") or 32, rope)
    last = _turning_dim(given.get("beta_slow") or 1, rope)
    if given.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rope.rotary_dim - 1)
    span = (last - first) or 0.001
    ramp = ((torch.arange(rope.rotary_dim // 2).float() - first) / span).clamp(0, 1)
    frequencies = _plain(rope.theta, rope)
    return frequencies * (1 - ramp) + frequencies / factor * ramp, _yarn_factor(given, factor)


def _turning_dim(turns: float, rope: RopeConfig) -> float:
    """The (fractional) dimension that turns so often over the trained length."""
    return (
        rope.rotary_dim
        * math.log(rope.original_max / (turns * 2 * math.pi))
        / (2 * math.log(rope.theta))
    )


def _yarn_factor(given: dict[str, Any], factor: float) -> float:
    if given.get("attention_factor") is not None:
        return float(given["attention_factor"])

    def scale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if given.get("mscale") and given.get("mscale_all_dim"):
        return scale(given["mscale"]) / scale(given["mscale_all_dim"])
    return scale(1.0)


def _longrope(rope: RopeConfig, max_model_len: int) -> Frequencies:
    """Searched factors a dimension: one set within the trained length, one beyond."""
    given = rope.parameters
    name = "long_factor" if max_model_len > rope.original_max else "short_factor"
    frequencies = _plain(rope.theta, rope)
    if len(given[name]) != len(frequencies):
        raise ConfigError(f"config.json: {name} needs {len(frequencies)} numbers.")
    frequencies = frequencies / torch.tensor(given[name], dtype=torch.float32)
    factor = given.get("factor") or rope.max_position_embeddings / rope.original_max
    attention = given.get("attention_factor")
    if attention is None:
        growth = math.log(factor) / math.log(rope.original_max) if factor > 1 else 0.0
        attention = math.sqrt(1 + growth)
    return frequencies, float(attention)


KINDS: dict[str, Callable[[RopeConfig, int], Frequencies]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "su": _longrope,
}
