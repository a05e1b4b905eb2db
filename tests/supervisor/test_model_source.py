"""A model is a directory, or is fetched from a hub (a local stand-in for it here)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import house_locate
import pytest
from house_hub import Hub, hub

from octavo.services.supervisor.model_source import locate
from octavo.shared.errors import ConfigError

FILES = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
    "tokenizer.json": b"{}",
    "generation_config.json": b"{}",
    "chat_template.jinja": b"hello",
    "model.safetensors": b"weights" * 100,
    "consolidated.safetensors": b"the same weights again",
    "pytorch_model.bin": b"a pickle",
    "modeling_evil.py": b"code",
    "README.md": b"words",
    "original/params.json": b"{}",
}
WANTED = {
    "config.json",
    "tokenizer.json",
    "generation_config.json",
    "chat_template.jinja",
    "model.safetensors",
}


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub({"someone/tiny": FILES}) as running:
        yield running


def find(home: Path, server: Hub, *arguments: str, **environ: str) -> tuple[int, str]:
    """Exit code and output of a fresh process: the hub's client reads its settings at import."""
    done = subprocess.run(
        [sys.executable, house_locate.__file__, *arguments],
        env={"PATH": os.environ["PATH"], "HF_HOME": str(home), "HF_ENDPOINT": server.url}
        | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        | environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout.strip()


def test_downloads_only_what_a_model_needs_and_only_once(tmp_path: Path, server: Hub) -> None:
    code, place = find(tmp_path, server, "someone/tiny")
    assert code == 0, place
    assert {path.name for path in Path(place).iterdir()} == WANTED
    assert (Path(place) / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert Path(place).is_relative_to(tmp_path)
    server.requests.clear()
    assert find(tmp_path, server, "someone/tiny", HF_HUB_OFFLINE="1") == (0, place)
    assert server.requests == []


def test_a_download_is_told_of_in_lines(tmp_path: Path, server: Hub) -> None:
    code, said = find(tmp_path, server, "someone/tiny", "--lines")
    assert code == 0, said
    assert re.search(r"^fetching someone/tiny \d+ % \(.* of .* B\)$", said, re.M), said


def test_dummy_weights_need_no_download(tmp_path: Path, server: Hub) -> None:
    code, place = find(tmp_path, server, "someone/tiny", "--no-weights")
    assert code == 0, place
    assert {path.name for path in Path(place).iterdir()} == WANTED - {"model.safetensors"}


def test_what_cannot_be_had_is_one_line(tmp_path: Path, server: Hub) -> None:
    code, line = find(tmp_path, server, "someone/else")
    assert code == 2
    assert line.startswith("someone/else: no such directory, and no such model on the hub")
    code, line = find(tmp_path, server, "someone/tiny", HF_HUB_OFFLINE="1")
    assert code == 2
    assert line.startswith("someone/tiny: ") and "cache" in line and "\n" not in line


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/no/such/place", "no such directory"),
        ("a/b/c", "no such directory"),
        ("../up", "no such directory"),
        ("-flag", "no such directory"),
        ("{here}/file", "is a file"),
        ("{here}", "holds no config.json"),
    ],
)
def test_bad_paths(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=says):
        locate(name.format(here=tmp_path))


def test_a_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    assert locate(str(tmp_path)) == tmp_path
