"""The OpenAI SDK for Node; skipped where npm cannot bring it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from octavo_server import Server
from sdk_tasks import is_verdict

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parent.parent / "support" / "sdk_node.mjs"
Task = Callable[[str], Any]


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script and the SDK beside it."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no node or npm here")
    folder = tmp_path_factory.mktemp("node")
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), "openai@7"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=180)
    except subprocess.TimeoutExpired:
        pytest.skip("npm cannot be reached")
    if done.returncode != 0:
        pytest.skip("npm cannot be reached")
    shutil.copy(SCRIPT, folder)
    return folder


@pytest.fixture
def task(node_folder: Path, server: Server) -> Task:
    return task_on(node_folder, server)


def task_on(node_folder: Path, server: Server) -> Task:
    def run(name: str) -> Any:
        done = subprocess.run(
            ["node", SCRIPT.name, f"{server.url}/v1", name],
            cwd=node_folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_chat_and_its_stream(task: Task) -> None:
    whole, streamed = task("chat"), task("stream")
    assert "85" in whole["text"] and whole["text"] == streamed["text"]
    assert streamed["pieces"] > 2 and whole["usage"]["total_tokens"] > 0


def test_tools(task: Task) -> None:
    for call in task("tools"):
        assert call["name"] == "judge" and is_verdict(call["arguments"])


def test_a_json_schema(task: Task) -> None:
    assert is_verdict(task("schema"))


def test_embeddings(node_folder: Path, embedder: Server) -> None:
    sizes = task_on(node_folder, embedder)("embeddings")
    assert len(sizes) == 2 and len(set(sizes)) == 1


def test_responses(task: Task) -> None:
    found = task("responses")
    assert found["text"] and found["text"] == found["streamed"]
    assert (found["first"], found["last"]) == ("response.created", "response.completed")


def test_an_error(task: Task) -> None:
    assert task("error") == {"kind": "BadRequestError", "status": 400, "param": "temperature"}
