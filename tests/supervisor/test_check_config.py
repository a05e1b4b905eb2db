"""`octavo check-config` names every value's source; what it prints can be served with."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.services.launch import run
from octavo.services.supervisor.check_config import check_config
from octavo.services.supervisor.options import OPTIONS
from octavo.services.supervisor.settings import read_settings


def test_every_option_with_its_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "o.toml"
    file.write_text('host = "file"\nport = 1\napi-key = "secret"\n')
    argv = ["mine", "--config", str(file), "--port", "3"]
    assert check_config(argv, {"OCTAVO_SEED": "7", "OCTAVO_PORT": "2"}) == 0
    shown = capsys.readouterr().out
    found = {line.lstrip("# ").split(" =")[0]: line for line in shown.splitlines() if " =" in line}
    assert {option.name for option in OPTIONS} | {"model"} == set(found)
    for name, value, source in [
        ("port", "3", "flag --port"),
        ("host", '"file"', f"file {file}"),
        ("seed", "7", "variable OCTAVO_SEED"),
        ("dtype", '"auto"', "default"),
        ("model", '"mine"', "argument"),
    ]:
        assert found[name].split() == [name, "=", value, "#", *source.split()]
    assert "secret" not in shown and "not shown" in found["api_key"]


def test_its_output_is_a_config_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["org/m", "--max-model-len", "32k", "--no-enable-prefix-caching"]
    argv += ["--served-model-name", "a", "b"]
    assert check_config(argv, {}) == 0
    file = tmp_path / "again.toml"
    file.write_text(capsys.readouterr().out)
    assert read_settings(["--config", str(file)], {}) == read_settings(argv, {})


def test_unknown_keys_end_with_2_and_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "o.toml"
    file.write_text("prot = 1\n")
    assert run(["check-config", "--config", str(file)], {}) == 2
    assert "unknown key prot; did you mean port?" in capsys.readouterr().err
    assert run(["check-config", "--max-num-seq", "3"], {}) == 2
    assert "did you mean --max-num-seqs?" in capsys.readouterr().err
    assert run(["check-config"], {"OCTAVO_HOTS": "x"}) == 2
    assert "did you mean OCTAVO_HOST?" in capsys.readouterr().err
