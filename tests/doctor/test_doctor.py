"""`octavo doctor` finds what is wrong, says what to do, and says by its exit code that it did."""

from __future__ import annotations

import json
import resource
import shutil
import socket
from pathlib import Path

import pytest
from model_checkpoints import make_checkpoint
from packaging.requirements import Requirement
from terminal import terminal

from octavo.services.doctor import gpu, system
from octavo.services.doctor.finding import Finding
from octavo.services.doctor.model import model
from octavo.services.doctor.packages import faults, requirements
from octavo.services.launch import run


def level(finding: Finding) -> str:
    assert (finding.fix == "") == (finding.level == "ok"), "a fix for each fault"
    return finding.level


def test_in_a_terminal() -> None:
    with terminal("doctor", "--port", "0") as screen:
        assert screen.end() == 0, screen.text
        assert "\x1b[32mok " in screen.raw
        assert "packages" in screen.text and " errors, " in screen.text


def test_json_and_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["doctor", "--port", str(port), "--json"], {}) == 1
    report = json.loads(capsys.readouterr().out)
    found = {one["name"]: one for one in report["findings"]}
    assert not report["ok"] and found["port"]["level"] == "error"
    assert "--port" in found["port"]["fix"] and found["Python"]["level"] == "ok"
    assert run(["doctor", "--port", "70000"], {}) == 2


def test_a_models_directory(tmp_path: Path) -> None:
    make_checkpoint("llama", tmp_path)
    assert [level(one) for one in model(str(tmp_path))] == ["ok", "ok", "ok"]
    (tmp_path / "tokenizer.json").unlink()
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    assert [level(one) for one in model(str(tmp_path))] == ["ok", "error", "error"]
    (tmp_path / "config.json").write_text('{"architectures": ["X"], "vocab_size": 1}')
    assert [level(one) for one in model(str(tmp_path))] == ["error"]
    assert [level(one) for one in model("org/name")] == ["warning"]
    assert [level(one) for one in model("/no/such/place")] == ["error"]


SMI = "#!/bin/sh\necho 'NVIDIA H200, 143771, 621, {free}, {driver}, {capability}'\n"


@pytest.mark.parametrize(
    ("free", "driver", "capability", "levels"),
    [
        (143000, "580.159.04", "9.0", ["ok", "ok"]),
        (10000, "580.159.04", "9.0", ["warning", "ok"]),
        (143000, "535.10", "7.5", ["warning", "error"]),
    ],
)
def test_gpus(
    free: int,
    driver: str,
    capability: str,
    levels: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text(SMI.format(free=free, driver=driver, capability=capability))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(gpu, "cuda_of_torch", lambda: 13)
    assert [level(one) for one in gpu.gpus()] == levels
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert [level(one) for one in gpu.kernels({"HOME": str(tmp_path)})] == ["error", "ok"]


def test_no_gpu_and_a_silent_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "list_gpus", list)
    monkeypatch.setattr(gpu, "DEVICES", tmp_path)
    assert [level(one) for one in gpu.gpus()] == ["warning"]
    (tmp_path / "nvidia0").touch()
    assert [level(one) for one in gpu.gpus()] == ["error"]
    assert gpu.cache_directory({"TRITON_CACHE_DIR": "/x"}) == Path("/x")


def test_limits() -> None:
    assert level(system.open_files(resource.RLIM_INFINITY)) == "ok"
    assert level(system.open_files(1024)) == "warning"
    assert level(system.open_files(256)) == "error"
    assert level(system.locked_memory(64 << 10)) == "warning"
    assert level(system.shared_memory(Path("/nowhere"))) == "error"
    there = Path("/tmp/not/made/yet")
    assert level(system.disk("d", there, "fix", 1, 1)) == "ok"
    assert level(system.disk("d", there, "fix", 1 << 62, 1)) == "warning"
    assert level(system.disk("d", there, "fix", 1 << 62, 1 << 61)) == "error"


def test_packages() -> None:
    wanted = [Requirement("msgspec>=99"), Requirement("no-such-package"), Requirement("numpy")]
    found = list(faults(wanted))
    assert [level(one) for one in found] == ["error", "error"]
    assert found[0].fix == "pip install 'msgspec>=99'"
    assert {"torch", "httpx", "shtab"} <= {one.name for one in requirements()}
