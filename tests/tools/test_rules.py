"""Each rule finds its breach, and leaves the lawful neighbour alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import rules


def found(path: str, text: str) -> list[str]:
    return [line.split(": ", 1)[1] for line in rules.breaches(Path(path), text)]


@pytest.mark.parametrize(
    ("path", "text", "says"),
    [
        ("services/frontend/a.py", "import octavo.services.scheduler.engine", "must not import"),
        ("services/worker/a.py", "from octavo.services import frontend", "must not import"),
        ("services/demo/a.py", "import octavo.kernels.ops", "must not import"),
        ("kernels/a.py", "from octavo.services.worker import worker", "must not import"),
        ("shared/a.py", "def f():\n import torch.nn", "must not import torch.nn"),
        ("services/scheduler/a.py", "from torch import nn", "must not import torch.nn"),
        ("services/frontend/a.py", "import transformers", "must not import transformers"),
        ("services/worker/a.py", "import torch.distributed as dist", "may use"),
        ("services/worker/a.py", "from torch import distributed", "may use"),
        (
            "services/worker/a.py",
            "from starlette.routing import Route",
            "must not import starlette",
        ),
        ("services/scheduler/a.py", "import uvicorn", "must not import uvicorn"),
        ("services/worker/a.py", "import torch\ntorch.distributed.barrier()", "may use"),
        ("services/worker/a.py", "import pickle", "pickle is banned"),
        ("services/worker/a.py", "from multiprocessing import Pool", "multiprocessing.Pool is"),
        ("services/worker/a.py", "torch.load(x)", "torch.load is banned"),
        ("services/worker/parallel.py", "dist.broadcast_object_list(x)", "pickles"),
        ("services/worker/a.py", "eval('1')", "eval is banned"),
        ("services/launch.py", "run('ls', shell=True)", "shell= is banned"),
        ("services/worker/a.py", "assert x", "assert is gone"),
        ("services/worker/a.py", "import os\nos.environ['A']", "os.environ: only"),
        ("services/worker/a.py", "import os\nos.getenv('A')", "os.getenv: only"),
        ("services/worker/a.py", "from os import environ as e", "os.environ: only"),
        ("shared/queue.py", "", "named like a module"),
        ("kernels/__init__.py", "", "no __init__.py directly"),
    ],
)
def test_breach(path: str, text: str, says: str) -> None:
    lines = found(path, text)
    assert len(lines) == 1 and says in lines[0], lines


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("services/worker/a.py", "import torch\nfrom octavo.kernels import ops"),
        ("services/worker/parallel.py", "import torch.distributed as dist"),
        ("services/worker/a.py", "import re\nre.compile('x')\nmodel.eval()\nrun(x, shell=False)"),
        ("services/supervisor/a.py", "from octavo.services.worker.models import registry"),
        ("services/library/a.py", "import octavo.llm.engine\nimport octavo.shared.errors"),
        ("services/launch.py", "import os\nos.environ"),
        ("services/frontend/__init__.py", ""),
        ("services/frontend/routes/models.py", "from octavo.services.frontend import app"),
        ("services/worker/__main__.py", "from octavo.services.worker.worker import main"),
    ],
)
def test_lawful(path: str, text: str) -> None:
    assert found(path, text) == []


def test_the_product_keeps_the_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert rules.main(Path(rules.__file__).parent.parent) == 0, capsys.readouterr().out
