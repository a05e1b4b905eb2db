"""Row C: a model directory is data, whatever stands in it."""

from __future__ import annotations

import asyncio
import json
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from front_engine import frontend
from front_tokenizers import byte_level_folder

from octavo.services.supervisor.options import OPTIONS
from octavo.services.supervisor.resolve import resolve
from octavo.services.worker.checkpoint import stored_tensors
from octavo.services.worker.model_config import ModelConfig
from octavo.shared.config import EngineConfig, ServerConfig
from octavo.shared.errors import ConfigError
from octavo.shared.text.tokenizer import Tokenizer

Change = Callable[[Path], object]


CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "vocab_size": 320,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory that is read without complaint; nobody asks for its tensors here."""
    folder = byte_level_folder(tmp_path / "model")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    header(a=tensor(0, 64))(folder)
    return folder


def load(folder: Path) -> None:
    """All that the processes read of a directory, in the order in which they do."""
    server = ServerConfig(engine=EngineConfig(model=str(folder), device="cpu"))
    resolve(server, {})
    Tokenizer.load(folder)
    ModelConfig.load(folder)
    stored_tensors(folder)


def edit_json(name: str, **fields: object) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**known, **fields}))

    return change


def header(**tensors: object) -> Change:
    """A checkpoint of these tensors and 64 bytes of data."""

    def change(folder: Path) -> None:
        head = json.dumps(tensors).encode()
        data = struct.pack("<Q", len(head)) + head + bytes(64)
        (folder / "model.safetensors").write_bytes(data)

    return change


def length(number: int) -> Change:
    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(struct.pack("<Q", number) + path.read_bytes()[8:])

    return change


def replace(name: str, data: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(data)


def index(file: str) -> Change:
    return edit_json("model.safetensors.index.json", weight_map={"model.norm.weight": file})


def tensor(first: int, last: int, dtype: str = "F32", shape: object = (16,)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


def only_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


CORRUPTED: dict[str, Change] = {
    "config is no JSON": replace("config.json", b"{"),
    "config is a list": replace("config.json", b"[]"),
    "config is binary": replace("config.json", b"\x80\x04\x95"),
    "config is nested": replace("config.json", b'{"a":' * 99_999),
    "config is missing": lambda folder: (folder / "config.json").unlink(),
    "unknown architecture": edit_json("config.json", architectures=["Evil"]),
    "no architecture": edit_json("config.json", architectures=[]),
    "negative size": edit_json("config.json", hidden_size=-64),
    "text for a size": edit_json("config.json", num_hidden_layers="4; import os"),
    "tokenizer is no JSON": replace("tokenizer.json", b"\x00"),
    "tokenizer is a list": replace("tokenizer.json", b"[]"),
    "tokenizer is missing": lambda folder: (folder / "tokenizer.json").unlink(),
    "tokenizer's settings are nested": replace("tokenizer_config.json", b"[" * 99_999),
    "tokenizer's settings are no UTF-8": replace("tokenizer_config.json", b'{"a": "\xff"}'),
    "template is no UTF-8": replace("chat_template.jinja", b"\xff\xfe"),
    "defaults are no object": replace("generation_config.json", b"5"),
    "weights are empty": replace("model.safetensors", b""),
    "weights are cut": replace("model.safetensors", b"\x10\x00"),
    "header is no JSON": replace("model.safetensors", b"\x04\0\0\0\0\0\0\0{{{{"),
    "header is huge": length(2**63 - 1),
    "header wraps round": length(2**64 - 1),
    "offsets past the end": header(a=tensor(0, 64), b=tensor(64, 128)),
    "offsets overlap": header(a=tensor(0, 64), b=tensor(32, 64, shape=(8,))),
    "offsets backwards": header(a=tensor(64, 0)),
    "negative offsets": header(a=tensor(-64, 0)),
    "shape overflows": header(a=tensor(0, 64, shape=(2**32, 2**32))),
    "negative shape": header(a=tensor(0, 64, shape=(-4, -4))),
    "unknown dtype": header(a=tensor(0, 64, dtype="OBJECT")),
    "index is nested": replace("model.safetensors.index.json", b'{"a":' * 99_999),
    "index leads out": index("../../../etc/passwd"),
    "index is absolute": index("/etc/passwd"),
    "only pickles": only_pickles,
}


def test_a_good_directory_loads(folder: Path) -> None:
    load(folder)


@pytest.mark.parametrize("name", CORRUPTED)
def test_corrupted_directories_are_refused_in_a_line(folder: Path, name: str) -> None:
    CORRUPTED[name](folder)
    began = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        load(folder)
    assert time.monotonic() - began < 3
    assert len(caught.value.message.splitlines()) == 1


ODD: dict[str, Change] = {
    "special tokens": edit_json("tokenizer_config.json", bos_token=[1], eos_token={"x": 1}),
    "special tokens that are numbers": edit_json("special_tokens_map.json", pad_token=5),
    "templates": edit_json("tokenizer_config.json", chat_template=[1, {"name": "default"}, {}]),
    "a template that is a number": edit_json("tokenizer_config.json", chat_template=7),
    "defaults": edit_json(
        "generation_config.json", temperature=10**400, top_p="x", eos_token_id={"a": 1}, top_k=[]
    ),
    "more fields": edit_json("config.json", eval="import os", torch_dtype_code="x"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_directories_load(folder: Path, name: str) -> None:
    ODD[name](folder)
    load(folder)


def test_cve_2026_7482_offsets_outside_the_file(folder: Path) -> None:
    """GGUF in Ollama: a read past the end leaked the heap."""
    header(a=tensor(0, 1 << 40, shape=(1 << 38,)))(folder)
    with pytest.raises(ConfigError, match="outside the file"):
        stored_tensors(folder)


def test_cve_2025_66959_lengths_that_ask_for_memory(folder: Path) -> None:
    """CVE-2025-66960 likewise."""
    for number in (2**63 - 1, 2**40, 100 << 20):
        length(number)(folder)
        with pytest.raises(ConfigError, match="does not fit"):
            stored_tensors(folder)


def test_cve_2024_37032_no_path_in_a_file_is_followed(folder: Path) -> None:
    """CVE-2026-103663 likewise."""
    outside = folder.parent / "outside.safetensors"
    shutil.copy(folder / "model.safetensors", outside)
    for path in ("../outside.safetensors", str(outside), "./../outside.safetensors"):
        index(path)(folder)
        with pytest.raises(ConfigError, match="no such file"):
            stored_tensors(folder)


def test_cve_2025_24357_a_pickled_checkpoint_is_not_opened(folder: Path) -> None:
    """CVE-2026-15976 (a fallback to torch.load), CVE-2025-32434 and CVE-2026-24747 (what
    weights_only lets through)."""
    proof = folder / "proof"
    (folder / "model.safetensors").unlink()
    evil = f"cposix\nsystem\n(S'touch {proof}'\ntR.".encode()
    for name in ("pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"):
        (folder / name).write_bytes(evil)
    with pytest.raises(ConfigError):
        load(folder)
    assert not proof.exists()


def with_code(folder: Path) -> Path:
    """Make it one that wants its own code run; returns the file that would prove it."""
    proof = folder / "proof"
    names = (
        "configuration_evil",
        "modeling_evil",
        "tokenization_evil",
        "conftest",
        "sitecustomize",
    )
    for name in names:
        (folder / f"{name}.py").write_text(f"open({str(proof)!r}, 'w')\n")
    (folder / "evil.pth").write_text(f"import os; open({str(proof)!r}, 'w')\n")
    auto = {"AutoConfig": "configuration_evil.C", "AutoModelForCausalLM": "modeling_evil.M"}
    edit_json("config.json", auto_map=auto, trust_remote_code=True)(folder)
    edit_json("tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_evil.T", None]})(
        folder
    )
    return proof


def test_cve_2025_66448_auto_map_is_not_read(folder: Path) -> None:
    """CVE-2026-22807: before the flag was. CVE-2026-27893: in spite of it. CVE-2026-4372 and
    CVE-2026-46517: in what loads for the server."""
    proof = with_code(folder)
    load(folder)
    assert not proof.exists()


def test_cve_2026_27893_no_flag_trusts_code() -> None:
    names = {option.name for option in OPTIONS}
    assert not {name for name in names if "trust" in name and "code" in name}
    formats = {name for name in names if "revision" in name or "format" in name}
    assert not formats - {"load_format", "log_format"}
    fields = {*ServerConfig.__struct_fields__, *EngineConfig.__struct_fields__}
    assert not {name for name in fields if "remote" in name or "code" in name.split("_")}


def test_cve_2026_114053_requests_choose_no_revision(tokenizer: Tokenizer) -> None:
    async def main() -> None:
        async with frontend(tokenizer) as front:
            asked = {"revision": "evil", "code_revision": "evil", "trust_remote_code": True}
            response = await front.post("/v1/completions", prompt="a", **asked)
            ignored = response.headers["x-octavo-ignored-fields"]
            assert {one.strip() for one in ignored.split(",")} == set(asked)

    asyncio.run(main())


def test_cve_2026_47155_no_revision_but_one_directory(folder: Path) -> None:
    """What is served is one directory, read by every process; no file names another place."""
    server, _ = resolve(ServerConfig(engine=EngineConfig(model=str(folder), device="cpu")), {})
    assert (server.engine.model, server.engine.tokenizer) == (str(folder), str(folder))


def serve(folder: Path) -> tuple[int, list[str], float]:
    command = [sys.executable, "-P", "-m", "octavo.services.launch", "serve", str(folder)]
    began = time.monotonic()
    ended = subprocess.run(
        [*command, "--device", "cpu", "--port", "0"], capture_output=True, text=True, timeout=60
    )
    return ended.returncode, (ended.stdout + ended.stderr).splitlines(), time.monotonic() - began


def test_a_corrupted_directory_ends_the_command_in_a_line(folder: Path) -> None:
    CORRUPTED["unknown architecture"](folder)
    code, lines, seconds = serve(folder)
    assert (code, len(lines)) == (2, 1), lines
    assert lines[0].startswith("octavo: error: ") and seconds < 3
