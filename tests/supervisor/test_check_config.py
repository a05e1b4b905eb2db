"""`octavo check-config` names every value's source; what it prints can be served with."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest
from house_models import write_model

from octavo.services.launch import run
from octavo.services.supervisor.check_config import check_config
from octavo.services.supervisor.options import OPTIONS, number
from octavo.services.supervisor.settings import read_settings
from octavo.shared.errors import ConfigError


def test_every_option_with_its_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "o.toml"
    file.write_text('host = "127.0.0.2"\nport = 1\napi-key = "secret"\n')
    argv = ["org/mine", "--config", str(file), "--port", "3"]
    assert check_config(argv, {"OCTAVO_SEED": "7", "OCTAVO_PORT": "2"}) == 0
    shown = capsys.readouterr().out
    found = {line.lstrip("# ").split(" =")[0]: line for line in shown.splitlines() if " =" in line}
    assert {option.name for option in OPTIONS} | {"model"} == set(found)
    for name, value, source in [
        ("port", "3", "flag --port"),
        ("host", '"127.0.0.2"', f"file {file}"),
        ("seed", "7", "variable OCTAVO_SEED"),
        ("dtype", '"auto"', "default"),
        ("model", '"org/mine"', "argument"),
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


@pytest.fixture
def only_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """`octavo serve` gets as far as it can be refused."""

    def started(*_: object, **__: object) -> NoReturn:
        raise AssertionError("it was not refused")

    monkeypatch.setattr("octavo.shared.log.setup_logging", lambda *_: None)
    monkeypatch.setattr("octavo.services.supervisor.supervisor.supervise", started)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--gpu-memory-utilization 7", "gpu_memory_utilization must be between 0.01 and 1.0"),
        ("--max-num-seqs 0", "max_num_seqs must be between 1 and"),
        ("--max-num-seqs 9 --max-num-batched-tokens 8", "8 is less than max_num_seqs 9"),
        ("--max-model-len 0", "max_model_len must be between 1 and"),
        ("--max-model-len 129", "max_model_len 129 is more than the model's 128 tokens"),
        ("--tensor-parallel-size 0", "tensor_parallel_size must be between 1 and"),
        ("-tp 3 --device cpu", "3 does not divide 8 attention heads"),
        ("--deterministic -tp 2", "deterministic is for one rank"),
        ("--kv-cache-memory-bytes 0", "kv_cache_memory_bytes must be between 1 and"),
        ("--target-itl-ms nan", "target_itl_ms must be between"),
        ("--priority-ageing nan", "priority_ageing must be between"),
        ("--tenant-slowdown -3", "tenant_slowdown must be between 1.1 and"),
        ("--tenant-slowdown inf", "tenant_slowdown must be between 1.1 and"),
        ("--host no.such.invalid", "host 'no.such.invalid' cannot be resolved"),
        ("--tokenizer /no/such", "/no/such: no such directory"),
        (
            "--otlp-traces-endpoint notaurl",
            "otlp_traces_endpoint 'notaurl': it must begin with http",
        ),
        (
            "--otlp-traces-endpoint http://[::bad",
            "otlp_traces_endpoint 'http://[::bad': it must begin with http",
        ),
        (
            "--otlp-traces-endpoint http://h:99999",
            "otlp_traces_endpoint 'http://h:99999': it must begin with http",
        ),
    ],
)
@pytest.mark.usefixtures("only_checked")
def test_it_refuses_what_serve_refuses(
    flags: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(write_model(tmp_path / "m"))
    for command in (["check-config"], ["serve", "--port", "0"]):
        assert run([*command, model, *flags.split()], {}) == 2
        told = capsys.readouterr()
        assert says in told.err and told.err.count("\n") == 1 and not told.out


@pytest.mark.usefixtures("only_checked")
@pytest.mark.parametrize("model", ["/no/such", "a/b/c", "file"])
def test_a_model_that_is_not_there(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    named = str(tmp_path / model) if model == "file" else model
    for command in (["check-config"], ["serve", "--port", "0"]):
        assert run([*command, named], {}) == 2
        assert named in capsys.readouterr().err


def test_a_model_on_the_hub_is_not_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check-config", "org/model"], {"HF_ENDPOINT": "http://127.0.0.1:1"}) == 0
    assert 'model = "org/model"' in capsys.readouterr().out


def test_no_option_takes_what_is_not_a_number() -> None:
    """JSON's NaN and Infinity are no TOML, so what check-config prints could not be read again."""
    for option in (option for option in OPTIONS if option.parse is number):
        for text in ("nan", "inf", "-inf"):
            with pytest.raises(ConfigError, match=f"{option.name} must be between"):
                read_settings([f"{option.flag}={text}"], {})
