"""Whether a model is to pool, and how: from its architecture, its sentence-transformers files and
what the user says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import msgspec

from octavo.services.supervisor.model_info import ModelFile, read_json
from octavo.services.worker.models import registry
from octavo.shared.config import EngineConfig
from octavo.shared.errors import ConfigError
from octavo.shared.pooling import Activation, Pooler, PoolingInfo, PoolingTask

MODULES, SENTENCES = "modules.json", "sentence_bert_config.json"
POOLING_FOLDER = re.compile(r"\d+_Pooling")
KINDS = ("Transformer", "Pooling", "Normalize")
MODES: dict[str, Pooler] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
NAMES: dict[str, Pooler] = {"cls": "cls", "mean": "mean", "lasttoken": "last", "last": "last"}
ACTIVATIONS: dict[str, Activation] = {
    "torch.nn.modules.linear.Identity": "none",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.activation.Softmax": "softmax",
}
PROBLEMS: dict[str, Activation] = {
    "regression": "none",
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
}


class Module(msgspec.Struct):
    """A step of sentence-transformers; `type` is a Python name, of which the last word counts."""

    type: str
    path: str = ""

    @property
    def kind(self) -> str:
        return self.type.rpartition(".")[2]


class PoolingFile(msgspec.Struct):
    """A Pooling module's config.json: flags, or since version 5 a name."""

    pooling_mode: str | list[str] | None = None
    pooling_mode_cls_token: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_lasttoken: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False
    pooling_mode_weightedmean_tokens: bool = False


class HeadFile(msgspec.Struct):
    """config.json, as far as it concerns a pooling model's head."""

    hidden_size: Annotated[int, msgspec.Meta(ge=1)]
    id2label: dict[str, str] | None = None
    num_labels: Annotated[int, msgspec.Meta(ge=1)] | None = None
    problem_type: str | None = None
    sentence_transformers: dict[str, Any] | None = None
    sbert_ce_default_activation_function: str | None = None
    pad_token_id: int | None = None


class SentenceFile(msgspec.Struct):
    max_seq_length: Annotated[int, msgspec.Meta(ge=1)] | None = None


def pooling_info(directory: Path, file: ModelFile, engine: EngineConfig) -> PoolingInfo | None:
    """None: the model generates. Raises ConfigError for what it cannot be."""
    architecture = file.architectures[0]
    modules = _modules(directory)
    if not _pools(architecture, engine, bool(modules)):
        return None
    task = _task(architecture, engine)
    encoder = architecture in registry.ENCODERS
    if encoder and engine.tensor_parallel_size > 1:
        raise ConfigError(f"tensor_parallel_size: {architecture} runs on one rank")
    head = read_json(directory / "config.json", HeadFile)
    if task == "classify":
        labels = _labels(head)
        return PoolingInfo(
            task=task,
            pooler="cls" if encoder else "last",
            dimension=len(labels),
            activation=_activation(head, len(labels)),
            labels=labels,
            encoder=encoder,
        )
    normalize = any(module.kind == "Normalize" for module in modules)
    return PoolingInfo(
        task=task,
        pooler=_pooler(directory, modules) or ("cls" if encoder else "last"),
        dimension=head.hidden_size,
        normalize=normalize if modules else not encoder,
        encoder=encoder,
    )


def longest_text(directory: Path, file: ModelFile) -> int:
    """What a pooling model takes at most, in tokens."""
    length, architecture = file.max_len, file.architectures[0]
    if architecture in registry.ENCODERS:
        head = read_json(directory / "config.json", HeadFile)
        length -= registry.first_position(architecture, head.pad_token_id)
    if (directory / SENTENCES).is_file():
        length = min(
            length, read_json(directory / SENTENCES, SentenceFile).max_seq_length or length
        )
    return length


def _pools(architecture: str, engine: EngineConfig, has_modules: bool) -> bool:
    generates = architecture in registry.ARCHITECTURES
    if engine.runner == "generate":
        if not generates:
            raise ConfigError(f"runner generate: {architecture} has no language model head")
        if engine.convert in ("embed", "classify"):
            raise ConfigError(f"convert {engine.convert} needs runner pooling")
        return False
    asked = engine.runner == "pooling" or engine.convert in ("embed", "classify")
    return asked or has_modules or not generates


def _task(architecture: str, engine: EngineConfig) -> PoolingTask:
    if engine.convert in ("embed", "classify"):
        return engine.convert
    if engine.convert == "none" and architecture in registry.ARCHITECTURES:
        raise ConfigError(f"convert none: {architecture} does not pool by itself")
    return "classify" if architecture.endswith("ForSequenceClassification") else "embed"


def _modules(directory: Path) -> list[Module]:
    """The steps of sentence-transformers; none where the model is no such one."""
    if not (directory / MODULES).is_file():
        return []
    modules = read_json(directory / MODULES, list[Module])
    for module in modules:
        if module.kind not in KINDS:
            raise ConfigError(f"{directory / MODULES}: module {module.kind} is not supported")
    return modules


def _pooler(directory: Path, modules: list[Module]) -> Pooler | None:
    paths = [module.path for module in modules if module.kind == "Pooling"]
    if not paths:
        return None
    if not POOLING_FOLDER.fullmatch(paths[0]):
        raise ConfigError(f"{directory / MODULES}: {paths[0]!r} is no folder of a Pooling module")
    path = directory / paths[0] / "config.json"
    pooler = _mode(read_json(path, PoolingFile))
    if pooler is None:
        raise ConfigError(f"{path}: only one of cls, mean and lasttoken is supported")
    return pooler


def _mode(file: PoolingFile) -> Pooler | None:
    if isinstance(file.pooling_mode, str):
        return NAMES.get(file.pooling_mode)
    flags = {name: value for name, value in msgspec.structs.asdict(file).items() if value is True}
    return MODES.get(next(iter(flags))) if len(flags) == 1 else None


def _labels(head: HeadFile) -> list[str]:
    """By index. Without any, a configuration means two."""
    if head.id2label:
        try:
            return [name for _, name in sorted((int(k), v) for k, v in head.id2label.items())]
        except ValueError:
            raise ConfigError("config.json: id2label has keys that are no numbers") from None
    return [f"LABEL_{index}" for index in range(head.num_labels or 2)]


def _activation(head: HeadFile, num_labels: int) -> Activation:
    """What makes scores of logits: named by a cross-encoder, or as transformers' losses have it."""
    name = (head.sentence_transformers or {}).get("activation_fn")
    name = name or head.sbert_ce_default_activation_function
    if name:
        if name not in ACTIVATIONS:
            raise ConfigError(f"config.json: activation {name!r} is not supported")
        return ACTIVATIONS[name]
    usual: Activation = "sigmoid" if num_labels == 1 else "softmax"
    return PROBLEMS.get(head.problem_type or "", usual)
