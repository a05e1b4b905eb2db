"""Whether a model's directory holds all that serving needs. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from octavo.services.doctor.finding import GIB, Finding, error, ok, warning
from octavo.services.supervisor.model_info import read_model_file
from octavo.services.supervisor.model_source import HUB_ID, locate
from octavo.services.worker.checkpoint import stored_tensors
from octavo.shared.errors import ConfigError

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.txt")
AGAIN = "fetch the model again: hf download, or git lfs pull where it was cloned"


def model(name: str) -> Iterator[Finding]:
    """`name` as for `octavo serve`; empty: the bundled demo."""
    folder = Path(name).expanduser()
    if name and not folder.is_dir():
        yield _elsewhere(name)
        return
    try:
        path = locate(name)
        architecture = read_model_file(path).architectures[0]
    except ConfigError as failure:
        yield error("model", failure.message, "name a complete directory of a supported model")
        return
    yield ok("model", f"{architecture} at {path}")
    yield weights(path)
    yield tokenizer(path)


def _elsewhere(name: str) -> Finding:
    if not HUB_ID.fullmatch(name):
        return error("model", f"{name}: no such directory", "correct the path")
    return warning(
        "model",
        f"{name} is no directory here: the hub would be asked",
        f"hf download {name} fetches it beforehand",
    )


def weights(path: Path) -> Finding:
    try:
        tensors = stored_tensors(path)
    except ConfigError as failure:
        return error("weights", failure.message, AGAIN)
    size = sum(tensor.num_bytes for tensor in tensors.values())
    files = len({tensor.path for tensor in tensors.values()})
    return ok("weights", f"{len(tensors)} tensors in {files} files, {size / GIB:.2f} GiB")


def tokenizer(path: Path) -> Finding:
    found = next((name for name in TOKENIZERS if (path / name).is_file()), None)
    if found is None:
        return error(
            "tokenizer", "none beside the weights", "fetch it too, or name one with --tokenizer"
        )
    return ok("tokenizer", found)
