"""Row A: no pickle on any socket, no socket that others reach."""

from __future__ import annotations

import ast
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import zmq
from banned import banned
from security import CHAT, SECRETS, Socket, Target, address_of, target, tcp_sockets

from octavo.services.demo.dialogue import CHAT_TEMPLATE as CHATML
from octavo.shared.config import FRONTEND_SOCKET, WORKER_SOCKET
from octavo.shared.environment import BARE

ROOT = Path(__file__).parent.parent.parent


def test_the_list_of_what_is_banned() -> None:
    paths = [
        one for room in ("services", "kernels", "shared") for one in (ROOT / room).rglob("*.py")
    ]
    found = {str(path): list(banned(ast.parse(path.read_text()))) for path in paths}
    assert len(paths) > 100
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "text",
    [
        *("import pickle", "from marshal import loads", "eval('1')", "f = exec", "torch.load(x)"),
        *("run('x', shell=True)", "run(x, shell=flag)", "f(trust_remote_code=True)"),
        *("run('x', **{'shell': True})", "o = {'shell': yes}\nrun(**o)", "run(**dict(shell=1))"),
        *("dist.broadcast_object_list(x)", "from torch.distributed import broadcast_object_list"),
        *("torch.distributed.send_object_list(x)", "socket.recv_pyobj()", "f()._load_object(x)"),
        *("from torch import load", "from torch import load as read\nread(x)", "yaml.load(x)"),
        *("import torch as t\nt.load(x)", "from torch.serialization import load"),
        *("import torch.multiprocessing", "from torch import multiprocessing"),
        *(
            "from numpy import load",
            "import numpy as n\nn.load(x)",
            "np.load(x, allow_pickle=True)",
        ),
        *("from os import system", "import os as o\no.popen('x')", "from yaml import load"),
        *("import builtins\nbuiltins.eval('1')", "from builtins import exec as run"),
        *("getattr(__builtins__, 'eval')", "getattr(torch, 'load')(x)", "import_module(x)"),
        *("importlib.import_module(f'{x}.y')", "from importlib import import_module as i\ni(x)"),
        *("from subprocess import getoutput", "import pandas as p\np.read_pickle(x)"),
    ],
)
def test_the_list_finds_what_it_is_for(text: str) -> None:
    assert list(banned(ast.parse(text)))


@pytest.mark.parametrize(
    "text",
    [
        *("import re\nre.compile(x)", "model.eval()", "run(x, shell=False)", "torch.compile(f)"),
        *("json.load(f)", "o = {'shell': False}", "import_module(f'octavo.kernels.{name}')"),
    ],
)
def test_the_list_leaves_the_rest_alone(text: str) -> None:
    assert not list(banned(ast.parse(text)))


def test_cve_2025_32444_a_pickle_on_an_internal_socket_is_a_malformed_frame(
    served: Target, tmp_path: Path
) -> None:
    """Whoever reached the socket ran code, in one place after the other: CVE-2024-9053,
    CVE-2024-9052, CVE-2024-11041, CVE-2024-50050, CVE-2025-10164, CVE-2025-29783, CVE-2025-30165,
    CVE-2026-3059, CVE-2026-3060, CVE-2026-3989, CVE-2026-14890, CVE-2026-15969, CVE-2026-86793 and
    CVE-2026-93034."""
    proof = tmp_path / "proof"
    command = f"cposix\nsystem\n(S'touch {proof}'\ntR.".encode()
    [folder] = [one for one in served.folder.iterdir() if one.is_dir()]
    context = zmq.Context()
    for name in (FRONTEND_SOCKET, WORKER_SOCKET):
        peer = context.socket(zmq.DEALER)
        peer.setsockopt(zmq.LINGER, 500)
        peer.connect(f"ipc://{folder / name}")
        for payload in (command, b"\x80\x04" + command, b"\xc7\x10\x01" + command):
            peer.send(payload)
            peer.send_multipart([payload, payload])
        peer.close()
    context.term()
    assert served.complete()["choices"]
    assert not proof.exists()
    assert any("malformed" in line for line in served.server.lines)


def test_cve_2025_30202_one_tcp_port_and_it_is_the_public_one(served: Target) -> None:
    """CVE-2025-30202, CVE-2026-7301: sockets on all interfaces."""
    served.complete()
    listening = [one for one in tcp_sockets(served.tree()) if one.listens]
    assert {one.local for one in listening} == {served.server.port}
    assert all(one.is_loopback for one in listening)


def test_cve_2025_47277_ranks_listen_on_the_loopback_interface_alone() -> None:
    """A TCPStore listened on all interfaces, whatever address it was given."""
    with target("--tensor-parallel-size", "2") as served:
        served.complete()
        ranks = [pid for name, pid in served.server.children().items() if "worker" in name]
        theirs = [one for one in tcp_sockets(ranks) if one.listens]
        everybodys = [one for one in tcp_sockets(served.tree()) if one.listens]
    assert len(ranks) == 2 and theirs, "nobody listens: then this test shows nothing"
    assert [one for one in everybodys if not one.is_loopback] == []


def test_addresses_are_read_as_the_kernel_prints_them() -> None:
    printed = {
        "0100007F": True,
        "00000000": False,
        "0100000A": False,
        "00000000000000000000000001000000": True,
        "00000000000000000000000000000000": False,
        "0000000000000000FFFF00000100007F": True,
        "0000000000000000FFFF00000100000A": False,
    }
    found = {
        digits: Socket(address_of(digits), 80, "", listens=True).is_loopback for digits in printed
    }
    assert found == printed


def test_cve_2026_115912_no_handle_of_shared_memory_is_ours_to_forge(served: Target) -> None:
    for pid in served.tree():
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert "/dev/shm" not in maps and "memfd:" not in maps.replace("memfd:oneapi", "")


def test_sockets_are_for_our_user_alone(served: Target) -> None:
    entries = list(served.folder.iterdir())
    folders = [one for one in entries if one.is_dir()]
    admin = [one for one in entries if stat.S_ISSOCK(one.stat().st_mode)]
    assert [stat.S_IMODE(one.stat().st_mode) for one in folders] == [0o700]
    assert [stat.S_IMODE(one.stat().st_mode) for one in admin] == [0o600]
    assert len(entries) == 2


@pytest.mark.parametrize("which", ["served", "hostile"])
def test_secrets_are_in_no_command_line_and_no_childs_environment(
    which: str, request: pytest.FixtureRequest
) -> None:
    """Whether the keys came from the environment, or from the command line."""
    target: Target = request.getfixturevalue(which)
    supervisor, *others = target.tree()
    assert len(others) >= 4  # with the helpers
    for pid in (supervisor, *others):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
        assert not [secret for secret in SECRETS if secret in command]
    for pid in others:
        environment = Path(f"/proc/{pid}/environ").read_bytes().decode()
        assert not [secret for secret in SECRETS if secret in environment]
        assert "OCTAVO_API_KEY" not in environment


HELPERS = (b"octavo.services.grammar", b"octavo.services.templates")


def helpers(served: Target) -> list[int]:
    """Pids; a grammar's helper is there once a grammar has come."""
    served.complete(structured_outputs={"choice": ["yes", "no"]})
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in served.tree()}
    found = [pid for pid, line in lines.items() if any(name in line for name in HELPERS)]
    assert len(found) == 4
    return found


def test_helpers_hold_nothing_of_their_frontend(served: Target) -> None:
    """Who broke out of a sandbox there could accept connections, and read the keys they show."""
    of_frontend = _descriptors(served.server.children()["frontend-0"])
    for pid in helpers(served):
        theirs = _descriptors(pid)
        assert len(theirs) >= 3
        shared = set(theirs.values()) & set(of_frontend.values())
        assert shared == {theirs[2]}  # where errors are printed


def _descriptors(pid: int) -> dict[int, str]:
    """What each is, `/dev/null` and the like left out."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        what = os.readlink(entry)
        if not what.startswith(("/", "anon_inode")):
            found[int(entry.name)] = what
    return found


def test_helpers_have_an_environment_of_a_few_names(served: Target) -> None:
    for pid in helpers(served):
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        names = {entry.partition("=")[0] for entry in entries if entry}
        assert names and all(BARE.fullmatch(name) for name in names), names


def test_files_are_for_our_user_alone(served: Target) -> None:
    """Whatever a process may write: the admin socket and the folder of the others are seen above,
    a trace, a core or a log would be as well."""
    for pid in served.tree():
        status = Path(f"/proc/{pid}/status").read_text()
        assert "\nUmask:\t0077\n" in status, status
    assert {stat.S_IMODE(one.stat().st_mode) & 0o077 for one in served.folder.rglob("*")} == {0}


def test_two_frontends_share_the_port(hostile: Target) -> None:
    assert {"frontend-0", "frontend-1"} <= set(hostile.server.children())
    listening = [one for one in tcp_sockets(hostile.tree()) if one.listens]
    assert {one.local for one in listening} == {hostile.server.port}


def test_cve_2026_41523_no_check_is_an_assert(hostile: Target) -> None:
    """python -O takes those away."""
    chat: dict[str, Any] = {
        "messages": [{"role": "user", "content": "What is 12 + 30?"}],
        "chat_template": CHATML,
        "temperature": 0,
    }
    answer = hostile.post(CHAT, **chat)
    assert "42" in answer.json["choices"][0]["message"]["content"]
    assert hostile.post(CHAT, **chat, top_p=7).status == 400
    assert hostile.post(CHAT, key=None, **chat).status == 401
    constrained = hostile.post(CHAT, **chat, structured_outputs={"choice": ["yes", "no"]})
    assert constrained.json["choices"][0]["message"]["content"] in ("yes", "no")
    assert not any("Traceback" in line for line in hostile.server.lines)
