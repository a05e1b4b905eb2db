"""From what the user names to a local model directory: a path, a hub id, or the bundled demo."""

from __future__ import annotations

import importlib.resources
import logging
import re
import sys
from pathlib import Path
from typing import Any

from octavo.services.supervisor.fetch_lines import fetch_lines
from octavo.shared.errors import ConfigError

log = logging.getLogger(__name__)

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
DEMO_NAME = "octavo-demo"
CONFIG_FILES = ["*.json", "*.jinja", "tokenizer.model"]
WEIGHT_FILES = ["*.safetensors"]
POOLING_FILES = ["*_Pooling/config.json"]
NOT_OURS = ["*/*", "consolidated*"]
"""Other formats of the same weights, which some repositories carry beside."""


def served_name(model: str) -> str:
    return model or DEMO_NAME


def is_here(model: str) -> bool:
    """Whether it can only be found on this machine: it is no id on a hub, or there is a directory
    of that name."""
    return not model or Path(model).expanduser().exists() or not HUB_ID.fullmatch(model)


def locate(model: str, *, weights: bool = True) -> Path:
    """The directory of `model`, downloaded if it is a hub id. Raises ConfigError.

    Without `weights` (dummy ones will do) only configuration and tokenizer are downloaded.
    """
    if not model:
        return _checked(Path(str(importlib.resources.files("octavo.services.demo"))) / "model")
    path = Path(model).expanduser()
    if path.is_dir():
        return _checked(path.absolute())
    if path.exists():
        raise ConfigError(f"{model} is a file; give the directory that holds config.json")
    if not HUB_ID.fullmatch(model):
        raise ConfigError(f"{model}: no such directory")
    return _checked(_download(model, weights))


def _checked(path: Path) -> Path:
    if not (path / "config.json").is_file():
        raise ConfigError(f"{path} holds no config.json: not a model directory")
    return path


def _download(model: str, weights: bool) -> Path:
    """Fetch a snapshot into the Hugging Face cache (HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE hold)."""
    from huggingface_hub import snapshot_download

    bars: dict[str, Any] = {} if sys.stderr.isatty() else {"tqdm_class": fetch_lines(model)}
    log.info("looking for %s in the Hugging Face cache and hub", model)
    patterns = CONFIG_FILES + (WEIGHT_FILES if weights else [])
    try:
        path = Path(
            snapshot_download(model, allow_patterns=patterns, ignore_patterns=NOT_OURS, **bars)
        )
        if (path / "modules.json").is_file():
            snapshot_download(model, allow_patterns=POOLING_FILES, **bars)
        return path
    except Exception as error:  # the hub client raises its own, its HTTP library's and OSError
        raise ConfigError(_explain(model, error)) from error


def _explain(model: str, error: Exception) -> str:
    kind = type(error).__name__
    reasons = {
        "RepositoryNotFoundError": "no such directory, and no such model on the hub "
        "(or it is private: set HF_TOKEN)",
        "GatedRepoError": "the hub asks for an approved account: set HF_TOKEN",
        "LocalEntryNotFoundError": "no such directory, not in the local cache, and the hub "
        "cannot be reached",
        "OfflineModeIsEnabled": "not in the local cache, and HF_HUB_OFFLINE is set",
    }
    first = (str(error).strip().splitlines() or [kind])[0]
    return f"{model}: {reasons.get(kind, f'download failed: {kind}: {first}')}"
