"""Architectures by name. Free of torch, so that every process can ask what is supported."""

from __future__ import annotations

import importlib
from typing import Any

from octavo.shared.errors import ConfigError

_PACKAGE = "octavo.services.worker.models"
ARCHITECTURES = {
    "LlamaForCausalLM": "llama:LlamaForCausalLM",
    "MistralForCausalLM": "llama:LlamaForCausalLM",
    "Phi3ForCausalLM": "phi3:Phi3ForCausalLM",
    "Qwen2ForCausalLM": "qwen2:Qwen2ForCausalLM",
    "Qwen3ForCausalLM": "qwen3:Qwen3ForCausalLM",
}


def check_architecture(name: str) -> None:
    """Raise ConfigError, listing what there is, for an architecture that is not supported."""
    if name not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ConfigError(f"Architecture {name!r} is not supported. Supported: {known}.")


def model_class(name: str) -> Any:
    check_architecture(name)
    module, _, attribute = ARCHITECTURES[name].partition(":")
    return getattr(importlib.import_module(f"{_PACKAGE}.{module}"), attribute)
