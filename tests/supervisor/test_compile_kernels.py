"""`octavo compile` over fake workers, and its refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from house_supervisor import MODEL, fake_child

from octavo.services.supervisor.children import Spawner
from octavo.services.supervisor.compile_kernels import compile_kernels, without_weights
from octavo.shared.config import EngineConfig, ServerConfig
from octavo.shared.errors import ConfigError

SERVER = ServerConfig(engine=EngineConfig(device="cuda", tensor_parallel_size=2))


def spawner(behaviour: str) -> Spawner:
    environ = {**os.environ, "OCTAVO_TEST_FAKE": json.dumps({"worker-1": behaviour})}
    return Spawner(environ, fake_child)


def test_says_what_was_compiled_and_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert compile_kernels(SERVER, MODEL, spawner("")) == 0
    assert capsys.readouterr().out == (
        "    2  attention\n    4  norm\n6 kernels compiled, 4 were in the cache: /cache\n"
    )


def test_a_worker_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="the device has 8"):
        compile_kernels(SERVER, MODEL, spawner("refuse"))
    assert capsys.readouterr().out == ""


def test_needs_no_weights() -> None:
    assert without_weights(SERVER).engine.load_format == "dummy"
    assert without_weights(SERVER).engine.device == "cuda"


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--device", "cpu"], 2, "octavo compile needs a GPU"),
        (["--blok-size", "16"], 2, "did you mean --block-size?"),
        (["--help"], 0, "usage: octavo compile "),
    ],
)
def test_the_command(flags: list[str], code: int, says: str) -> None:
    argv = [sys.executable, "-m", "octavo.services.launch", "compile", *flags]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert done.returncode == code
    assert says in done.stdout + done.stderr
