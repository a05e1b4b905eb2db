"""Architectures by name. Free of torch, so that every process can ask what is supported."""

from __future__ import annotations

import importlib
from typing import Any

from octavo.shared.errors import ConfigError

ARCHITECTURES = {
    "LlamaForCausalLM": "llama:LlamaForCausalLM",
    "MistralForCausalLM": "llama:LlamaForCausalLM",
    "Phi3ForCausalLM": "phi3:Phi3ForCausalLM",
    "Qwen2ForCausalLM": "qwen2:Qwen2ForCausalLM",
    "Qwen3ForCausalLM": "qwen3:Qwen3ForCausalLM",
}
ENCODERS = {
    "BertModel": "bert:BertEncoder",
    "BertForSequenceClassification": "bert:BertEncoder",
    "RobertaModel": "roberta:RobertaEncoder",
    "RobertaForSequenceClassification": "roberta:RobertaEncoder",
    "XLMRobertaModel": "roberta:RobertaEncoder",
    "XLMRobertaForSequenceClassification": "roberta:RobertaEncoder",
}
"""They pool, and nothing else; so do the other two tables' models."""
POOLED_DECODER = "pooled_decoder:PooledDecoder"
FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3")
WINDOWED = ("MistralForCausalLM", "Phi3ForCausalLM")
"""Families whose sliding_window counts as it stands; in Llama's it means nothing."""
SWITCHED = ("Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""Families where use_sliding_window switches it on, in the last layers."""
WITHOUT_HEAD = {f"{name}Model": f"{name}ForCausalLM" for name in FAMILIES}
CLASSIFIERS = {f"{name}ForSequenceClassification": f"{name}ForCausalLM" for name in FAMILIES}
"""Both: what the decoder without its head, or with another, is called -> its family."""


def known() -> set[str]:
    return {*ARCHITECTURES, *ENCODERS, *WITHOUT_HEAD, *CLASSIFIERS}


def check_architecture(name: str) -> None:
    """Raise ConfigError, listing what there is, for an architecture that is not supported."""
    if name not in known():
        names = ", ".join(sorted(known()))
        raise ConfigError(f"Architecture {name!r} is not supported. Supported: {names}.")


def family(name: str) -> str:
    """The decoder's own name, whatever head it has."""
    return WITHOUT_HEAD.get(name) or CLASSIFIERS.get(name) or name


def has_window(name: str, switch: bool | None) -> bool:
    """Whether sliding_window of config.json counts; `switch`: its use_sliding_window."""
    return family(name) in WINDOWED or (family(name) in SWITCHED and bool(switch))


def first_position(name: str, pad_token_id: int | None) -> int:
    """The row of an encoder's position table at which a text begins; RoBERTa counts from behind
    the padding's."""
    roberta = ENCODERS[name].startswith("roberta")
    return (1 if pad_token_id is None else pad_token_id) + 1 if roberta else 0


def model_class(name: str) -> Any:
    check_architecture(name)
    return _load((ARCHITECTURES | ENCODERS)[family(name)])


def pooled_class(name: str) -> Any:
    """The class that makes vectors of what `name` computes."""
    check_architecture(name)
    return _load(ENCODERS.get(name, POOLED_DECODER))


def _load(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(f"octavo.services.worker.models.{module}"), attribute)
