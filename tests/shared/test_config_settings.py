"""Settings: flag over environment over file over default; what is unknown is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.services.supervisor import from_vllm
from octavo.services.supervisor.options import BY_NAME, OPTIONS, size
from octavo.services.supervisor.settings import Settings, make_parser, read_settings
from octavo.shared.config import EngineConfig, ServerConfig
from octavo.shared.errors import ConfigError


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_defaults() -> None:
    assert read_settings([], {}) == Settings(server=ServerConfig(engine=EngineConfig()))


def test_precedence(tmp_path: Path) -> None:
    file = write(tmp_path / "o.toml", 'port = 1\nhost = "file"\nseed = 1\nmodel = "file"\n')
    environ = {"OCTAVO_PORT": "2", "OCTAVO_HOST": "env", "OCTAVO_CONFIG": file, "HOST": "x"}
    server = read_settings(["--port", "3"], environ).server
    assert (server.port, server.host, server.engine.seed) == (3, "env", 1)
    assert server.engine.model == "file"
    assert read_settings(["mine"], environ).server.engine.model == "mine"


def test_the_flag_names_the_file_too(tmp_path: Path) -> None:
    first = write(tmp_path / "a.toml", "port = 1")
    second = write(tmp_path / "b.toml", "port = 2")
    settings = read_settings(["--config", second], {"OCTAVO_CONFIG": first})
    assert settings.server.port == 2


def test_every_kind_of_value() -> None:
    argv = "org/model --max-model-len 32k -tp 2 --no-enable-prefix-caching --enforce-eager"
    argv += " --api-key a b --api-key c --kv-cache-memory-bytes 1.5Gi --block-size 32"
    argv += " --gpu-memory-utilization 0.5 --log-level debug --prefill-beside-decode 1Ki"
    settings = read_settings(argv.split(), {"OCTAVO_SERVED_MODEL_NAME": "x, y"})
    engine = settings.server.engine
    assert settings.server.api_key == ["a", "b", "c"]
    assert settings.server.served_model_name == ["x", "y"]
    assert settings.log_level == "DEBUG"
    assert engine == EngineConfig(
        model="org/model",
        max_model_len=32000,
        tensor_parallel_size=2,
        enable_prefix_caching=False,
        enforce_eager=True,
        kv_cache_memory_bytes=3 * 2**29,
        block_size=32,
        prefill_beside_decode=1024,
        gpu_memory_utilization=0.5,
    )


def test_names_of_vllm() -> None:
    argv = "--model org/m --max-num-queued-reqs 9 --max-num-queued-tokens 1k --max-model-len"
    variables = {"OCTAVO_MAX_MODEL_LEN": "16"}
    assert read_settings([], variables).server.engine.max_model_len == 16
    for own in ("auto", "-1"):
        server = read_settings([*argv.split(), own], variables).server
        assert (server.engine.model, server.engine.max_model_len) == ("org/m", None)
        assert (server.max_queued_requests, server.max_queued_tokens) == (9, 1000)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--enable-chunked-prefill"], "--enable-chunked-prefill: always on here"),
        (["--no-enable-chunked-prefill"], "always on here"),
        (["m", "--quantization", "awq"], "--quantization: not supported yet"),
        (["-pp=2"], "-pp: not supported yet: -tp inside one host"),
        (["--trust-remote-code"], "no code is taken from a model"),
        (["a", "--model", "b"], "the model is named twice: a and --model b"),
    ],
)
def test_what_to_do_about_flags_of_vllm(argv: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_settings(argv, {})


def test_a_flag_of_vllm_that_we_have_is_no_hint() -> None:
    ours = {name for option in OPTIONS for name in (option.flag, option.alias)}
    assert not ours & set(from_vllm.HINTS)


def test_toml_spellings(tmp_path: Path) -> None:
    text = 'max-model-len = "8K"\nmax_num_seqs = 4\napi_key = ["k"]\nenforce_eager = true\n'
    server = read_settings(["--config", write(tmp_path / "o.toml", text)], {}).server
    assert (server.engine.max_model_len, server.engine.max_num_seqs) == (8192, 4)
    assert (server.api_key, server.engine.enforce_eager) == (["k"], True)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--prot", "1"], "unknown argument --prot; did you mean --port"),
        (["--max-model-length=1"], "unknown argument --max-model-length; did you mean"),
        (["model", "another"], "unknown argument another"),
        (["--port", "many"], "--port: 'many' is not a whole number"),
        (["--port", "70000"], "port must be between 0 and 65535, not 70000"),
        (["--shutdown-timeout", "nan"], "shutdown_timeout must be between"),
        (["--dtype", "int3"], "'int3' is not one of auto, float32"),
        (["--block-size", "7"], "block_size: "),
        (["--log-level", "loud"], "'LOUD'|'loud' is not one of"),
        (["--chat-template", "/no/such"], "/no/such: No such file"),
        (["--config", "/no/such"], "/no/such: No such file"),
        (["--api-key", ""], "api_key holds an empty entry"),
        (["--api-key", "k", " "], "api_key holds an empty entry"),
        (["--api-key", "k", "schlüssel"], "api_key: a key is printable ASCII"),
        (["--served-model-name", ""], "served_model_name holds an empty entry"),
    ],
)
def test_bad_flags(argv: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        read_settings(argv, {})
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("variable", "text", "says"),
    [
        ("OCTAVO_PROT", "1", "unknown variable OCTAVO_PROT; did you mean OCTAVO_PORT"),
        ("OCTAVO_port", "1", "unknown variable OCTAVO_port"),
        ("OCTAVO_SEED", "x", "OCTAVO_SEED: 'x' is not a whole number"),
        ("OCTAVO_ENFORCE_EAGER", "si", "OCTAVO_ENFORCE_EAGER: 'si' is not true or false"),
        ("OCTAVO_API_KEY", " ", "OCTAVO_API_KEY: nothing but separators"),
        ("OCTAVO_PORT", "tcp:10", "OCTAVO_PORT: 'tcp:10' is not a whole number"),
    ],
)
def test_bad_variables(variable: str, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_settings([], {variable: text})


def test_what_kubernetes_sets_beside_a_service_called_octavo_is_ignored() -> None:
    links = {
        "OCTAVO_PORT": "tcp://10.0.0.7:8000",
        "OCTAVO_PORT_8000_TCP": "tcp://10.0.0.7:8000",
        "OCTAVO_PORT_8000_TCP_ADDR": "10.0.0.7",
        "OCTAVO_SERVICE_HOST": "10.0.0.7",
        "OCTAVO_SERVICE_PORT": "8000",
        "OCTAVO_SERVICE_PORT_HTTP": "8000",
    }
    assert read_settings([], links) == read_settings([], {})


def test_test_variables_and_empty_ones_are_ignored() -> None:
    assert read_settings([], {"OCTAVO_TEST_X": "1", "OCTAVO_PORT": ""}).server.port == 8000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot = 1", "unknown key prot; did you mean port"),
        ('port = "x"', "port: 'x' is not a whole number"),
        ("port = [1]", "port: Expected `int`"),
        ("port = ", "o.toml: Invalid value"),
        ("[server]\nport = 1", "unknown key server"),
        ('api_key = [""]', "api_key holds an empty entry"),
        ('api_key = ""', "api_key: nothing but separators"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_settings(["--config", write(tmp_path / "o.toml", text)], {})


def test_the_template_is_read_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jinja", "{{ messages }}")
    assert read_settings(["--chat-template", path], {}).server.chat_template == "{{ messages }}"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("4096", 4096), ("32k", 32000), ("32K", 32768), ("32Ki", 32768), ("1.5G", 3 << 29)),
        *(("4gib", 4 << 30), ("4 GiB", 4 << 30), ("4GB", 4 << 30), ("4gb", 4 * 10**9)),
        *(("1T", 1 << 40), ("1t", 10**12), ("2 tib", 2 << 40), ("512 B", 512), (" 8k ", 8000)),
    ],
)
def test_sizes(text: str, value: int) -> None:
    assert size(text) == value


@pytest.mark.parametrize("text", ["", "k", "1.0001k1", "-1", "1e3", "2.5", "4i", "4p", "1 2"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ValueError):
        size(text)


def test_every_setting_has_an_option_and_help_shows_it() -> None:
    fields = {*EngineConfig.__struct_fields__, *ServerConfig.__struct_fields__, "log_level"}
    assert fields - {"model", "engine"} == set(BY_NAME)
    shown = make_parser("serve").format_help()
    assert all(option.flag in shown for option in OPTIONS)
