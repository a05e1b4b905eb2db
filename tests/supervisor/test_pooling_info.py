"""What a model is for, and how it pools, as its files and the user say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from house_models import write_json, write_model

from octavo.services.supervisor.resolve import resolve
from octavo.shared.config import EngineConfig, ModelInfo, ServerConfig
from octavo.shared.errors import ConfigError
from octavo.shared.pooling import PoolingInfo

BERT: dict[str, Any] = {"architectures": ["BertModel"], "max_position_embeddings": 512}


def decide(path: Path, **engine: Any) -> tuple[EngineConfig, ModelInfo]:
    asked = EngineConfig(model=str(path), device="cpu", **engine)
    server, model = resolve(ServerConfig(engine=asked), {})
    return server.engine, model


def pooling(path: Path, **engine: Any) -> PoolingInfo:
    info = decide(path, **engine)[1].pooling
    assert info is not None
    return info


def sentence_files(path: Path, *kinds: str, **flags: Any) -> None:
    modules = [
        {"type": f"sentence_transformers.models.{kind}", "path": f"{i}_{kind}"}
        for i, kind in enumerate(kinds)
    ]
    write_json(path / "modules.json", modules)
    (path / "1_Pooling").mkdir()
    write_json(path / "1_Pooling" / "config.json", flags)


def test_a_language_model_generates_unless_asked(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m")
    engine, model = decide(path)
    assert model.pooling is None and engine.enable_prefix_caching
    engine, model = decide(path, runner="pooling")
    assert model.pooling == PoolingInfo(task="embed", pooler="last", dimension=64, normalize=True)
    assert (engine.runner, engine.enable_prefix_caching) == ("pooling", False)
    assert pooling(path, convert="embed").task == "embed"
    assert decide(path, runner="generate")[1].pooling is None


def test_sentence_transformers_files_decide(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m")
    sentence_files(path, "Transformer", "Pooling", pooling_mode_mean_tokens=True)
    assert pooling(path) == PoolingInfo(task="embed", pooler="mean", dimension=64)
    assert decide(path, runner="generate")[1].pooling is None
    named = write_model(tmp_path / "n")
    sentence_files(named, "Transformer", "Pooling", "Normalize", pooling_mode="cls")
    assert pooling(named) == PoolingInfo(task="embed", pooler="cls", dimension=64, normalize=True)


@pytest.mark.parametrize(
    ("name", "pooler", "encoder"),
    [
        ("LlamaModel", "last", False),
        ("Qwen3Model", "last", False),
        ("BertModel", "cls", True),
        ("XLMRobertaModel", "cls", True),
    ],
)
def test_models_without_a_head_embed(tmp_path: Path, name: str, pooler: str, encoder: bool) -> None:
    info = pooling(write_model(tmp_path / "m", architectures=[name]))
    assert (info.task, info.pooler, info.encoder) == ("embed", pooler, encoder)
    assert info.normalize is not encoder


@pytest.mark.parametrize(
    ("config", "labels", "activation"),
    [
        ({}, ["LABEL_0", "LABEL_1"], "softmax"),
        ({"num_labels": 1}, ["LABEL_0"], "sigmoid"),
        ({"id2label": {"0": "no"}}, ["no"], "sigmoid"),
        ({"id2label": {"1": "b", "0": "a", "10": "c"}}, ["a", "b", "c"], "softmax"),
        ({"problem_type": "regression", "num_labels": 1}, ["LABEL_0"], "none"),
        ({"problem_type": "multi_label_classification"}, ["LABEL_0", "LABEL_1"], "sigmoid"),
        (
            {
                "num_labels": 1,
                "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
            },
            ["LABEL_0"],
            "none",
        ),
    ],
)
def test_classifiers(
    tmp_path: Path, config: dict[str, Any], labels: list[str], activation: str
) -> None:
    for name in ("BertForSequenceClassification", "Qwen3ForSequenceClassification"):
        info = pooling(write_model(tmp_path / name, architectures=[name], **config))
        assert (info.task, info.labels, info.activation) == ("classify", labels, activation)
        assert info.dimension == len(labels)


@pytest.mark.parametrize(
    ("config", "engine", "limits"),
    [
        ({}, {}, (512, 2048)),
        ({"max_position_embeddings": 8192}, {}, (8192, 8192)),
        ({}, {"max_num_batched_tokens": 100}, (100, 100)),
        ({}, {"max_model_len": 128}, (128, 2048)),
        ({"architectures": ["RobertaModel"], "pad_token_id": 1}, {}, (510, 2048)),
    ],
)
def test_an_encoders_step_holds_its_longest_text(
    tmp_path: Path, config: dict[str, Any], engine: dict[str, Any], limits: tuple[int, int]
) -> None:
    path = write_model(tmp_path / "m", **(BERT | config))
    resolved, model = decide(path, max_num_seqs=8, **engine)
    assert (resolved.max_model_len, resolved.max_num_batched_tokens) == limits
    assert model.max_model_len == limits[0]


def test_the_longest_text_may_be_less_than_the_model_s(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", **BERT)
    write_json(path / "sentence_bert_config.json", {"max_seq_length": 256})
    assert decide(path)[1].max_model_len == 256


BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (BERT, {"runner": "generate"}, "runner generate: BertModel"),
    ({}, {"runner": "generate", "convert": "embed"}, "convert embed needs"),
    ({}, {"runner": "pooling", "convert": "none"}, "convert none"),
    (BERT, {"tensor_parallel_size": 2}, "tensor_parallel_size"),
    (BERT, {"max_num_batched_tokens": 100, "max_model_len": 200}, "max_num_batched_tokens"),
    (BERT, {"max_model_len": 513}, "max_model_len"),
    (
        {"architectures": ["BertForSequenceClassification"], "id2label": {"x": "y"}},
        {},
        "id2label",
    ),
    (
        {
            "architectures": ["BertForSequenceClassification"],
            "sentence_transformers": {"activation_fn": "os.system"},
        },
        {},
        "activation",
    ),
]


@pytest.mark.parametrize(("config", "engine", "says"), BAD)
def test_what_cannot_be(
    tmp_path: Path, config: dict[str, Any], engine: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        decide(write_model(tmp_path / "m", **config), **engine)


@pytest.mark.parametrize(
    ("kinds", "flags", "says"),
    [
        (("Transformer", "Pooling", "Dense"), {"pooling_mode": "cls"}, "Dense"),
        (("Transformer", "Pooling"), {"pooling_mode": "max"}, "only one of"),
        (("Transformer", "Pooling"), {"pooling_mode_max_tokens": True}, "only one of"),
        (
            ("Transformer", "Pooling"),
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            "only one of",
        ),
    ],
)
def test_modules_that_are_not_supported(
    tmp_path: Path, kinds: tuple[str, ...], flags: dict[str, Any], says: str
) -> None:
    path = write_model(tmp_path / "m")
    sentence_files(path, *kinds, **flags)
    with pytest.raises(ConfigError, match=says):
        decide(path)


def test_a_path_in_a_file_is_not_followed(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m")
    write_json(path / "modules.json", [{"type": "x.Pooling", "path": "../1_Pooling"}])
    with pytest.raises(ConfigError, match="no folder"):
        decide(path)


def test_what_is_decided_travels(tmp_path: Path) -> None:
    model = decide(write_model(tmp_path / "m"), runner="pooling")[1]
    assert msgspec.json.decode(msgspec.json.encode(model), type=ModelInfo) == model
