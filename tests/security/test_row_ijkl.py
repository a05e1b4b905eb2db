"""Rows I to L: nothing goes out, nothing is told, nothing is left, nothing is shipped."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import random
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec
import pytest
from bad_requests import CANARY, WRONG, media
from front_engine import frontend
from octavo_server import wait_for
from security import CHAT, COMPLETIONS, KEYS, LEAKS, SECRETS, Target, target, tcp_sockets

from octavo.services.frontend.app import SERVED
from octavo.services.frontend.edge import invalid_request
from octavo.services.frontend.http_counts import METHODS
from octavo.shared.grammar.compiling import brief
from octavo.shared.log import formatter
from octavo.shared.text.tokenizer import Tokenizer

ROOT = Path(__file__).parent.parent.parent
HI = [{"role": "user", "content": "Hi"}]


def test_cve_2026_24779_no_request_makes_the_server_connect(served: Target) -> None:
    """CVE-2025-6242, CVE-2026-25960, CVE-2026-0599 and CVE-2026-63764 (redirects); CVE-2026-100650,
    CVE-2026-130686 and CVE-2026-105760 (what it then keeps)."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/x.png"
        for part in media(url):
            messages = [{"role": "user", "content": [part]}]
            answer = served.post(CHAT, messages=messages)
            assert answer.status == 400 and "content" in answer.error["param"]
            for path in ("/v1/messages", "/v1/responses"):
                asked = served.post(
                    path, messages=messages, input=messages, max_tokens=1, model="demo"
                )
                assert asked.status == 400
        schema = {"$ref": url, "$schema": url, "$id": url}
        served.post(CHAT, messages=HI, structured_outputs={"json": schema}, max_tokens=1)
        served.post("/v1/responses", input="Hi", previous_response_id=url, max_output_tokens=1)
        _no_connection(trap)
        assert {one.local for one in tcp_sockets(served.tree())} == {served.server.port}


def test_cve_2026_116176_a_request_id_is_no_address(served: Target) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        address = f"127.0.0.1:{trap.getsockname()[1]}"
        for name in ("X-Request-Id", "X-Data-Parallel-Rank", "Referer", "Origin", "X-Callback"):
            for value in (f"http://{address}/", f"tcp://{address}", f"___prefill_addr_{address}"):
                headers = {name: value}
                body = {"prompt": "a", "max_tokens": 1}
                assert served.call("POST", COMPLETIONS, body, headers).status == 200
        params = {"remote_host": "127.0.0.1", "remote_port": trap.getsockname()[1]}
        refused = served.post(COMPLETIONS, prompt="a", kv_transfer_params=params)
        assert refused.error["param"] == "kv_transfer_params"
        _no_connection(trap)


def _no_connection(trap: socket.socket) -> None:
    time.sleep(0.1)
    try:
        trap.accept()
    except BlockingIOError:
        return
    raise AssertionError("the server connected")


def test_cve_2026_22778_errors_tell_nothing_of_the_server(served: Target) -> None:
    """CVE-2026-54236: and not in what had been overlooked."""
    for path, body in WRONG:
        answer = served.call("POST", path, body)
        assert 400 <= answer.status < 500, (path, body, answer.data)
        assert answer.error["message"] and len(answer.data) < 2000
        assert not LEAKS.search(answer.data.decode()), answer.data


def odd_requests(rng: random.Random) -> list[bytes]:
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    found = []
    for number in range(300):
        word = "".join(rng.choices(letters, k=rng.randrange(1, 12)))
        method = rng.choice(["GET", "POST", "PROPFIND", "PURGE", "TRACE", word.upper(), word])
        path = rng.choice([f"/{word}", f"/v1/{word}", f"/v1/models/{word}", f"/{number}/{word}"])
        head = f"{method} {path} HTTP/1.1\r\nHost: {word}\r\nX-Request-Id: {word}\r\n"
        key = f"Authorization: Bearer {KEYS[number % 2]}\r\n"
        found.append(f"{head}{key}User-Agent: {word}\r\nConnection: close\r\n\r\n".encode())
    return found


def test_pysec_2026_4325_labels_are_of_closed_sets(served: Target) -> None:
    def series() -> set[str]:
        lines = served.metrics().splitlines()
        return {re.sub(r" \S+$", "", line) for line in lines if not line.startswith(("#", "http_"))}

    served.complete()
    before = series()
    for data in odd_requests(random.Random(1)):
        answer = served.raw(data)
        assert answer.split(b" ")[1:2] in ([b"404"], [b"405"], [b"400"]), (data, answer)
    for name in ("user", "model", "cache_salt", "request_id"):
        served.call("POST", COMPLETIONS, {"prompt": "a", "max_tokens": 1, name: "strange-name"})
    assert series() == before
    told = "\n".join(line for line in served.metrics().splitlines() if line.startswith("http_"))
    assert set(re.findall(r'handler="([^"]*)"', told)) <= {one.path for one in SERVED} | {"none"}
    assert set(re.findall(r'method="([^"]*)"', told)) <= METHODS | {"OTHER"}
    assert set(re.findall(r'status="([^"]*)"', told)) <= {"2xx", "4xx", "5xx"}


def say_canaries(served: Target) -> None:
    """Prompts, outputs, names, keys and nonsense, answered and refused."""
    fields = {"prompt": CANARY, "max_tokens": 2}
    for more in ({}, {"n": 99}, {"stream": True}, {"echo": True}, {"temperature": CANARY}):
        served.call("POST", COMPLETIONS, {**fields, **more})
    served.post(CHAT, messages=[{"role": "user", "content": CANARY}], max_tokens=2)
    said = served.complete(max_tokens=64, structured_outputs={"choice": [CANARY]})
    assert said["choices"][0]["text"] == CANARY
    served.post(COMPLETIONS, prompt="a", structured_outputs={"regex": CANARY + "("})
    served.post(COMPLETIONS, key=KEYS[0] + "x", prompt=CANARY)
    served.call("POST", COMPLETIONS, f'{{"prompt": "{CANARY}"'.encode())
    served.call("GET", f"/v1/models/{CANARY}")
    for body in (b"\x00", CANARY.encode()):
        served.raw(b"POST /v1/completions HTTP/1.1\r\n" + CANARY.encode() + b"\r\n\r\n" + body)


def told(served: Target) -> list[str]:
    printed = "\n".join(served.server.lines)
    return [secret for secret in (CANARY, *SECRETS) if secret in printed]


def test_prompts_outputs_and_keys_are_not_logged(served: Target) -> None:
    say_canaries(served)
    assert told(served) == []


def test_nor_as_json() -> None:
    """And not by what is told at most: every process at its most talkative."""
    with target("--log-format", "json", "--log-level", "DEBUG") as talkative:
        say_canaries(talkative)
        assert any(
            '"status": 200' in line or '"status":200' in line for line in talkative.server.lines
        )
    assert told(talkative) == []


class Broken:
    """Fails as our own bugs would, with a client's text in what it says."""

    async def submit(self, *given: object) -> None:
        raise ValueError(f"could not convert {CANARY!r}")


def test_nor_where_a_request_fails_by_a_bug(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(formatter("frontend-0", "text", private=True))
    logger = logging.getLogger("octavo.services.frontend.edge")
    monkeypatch.setattr(logger, "handlers", [handler])

    async def main() -> None:
        async with frontend(tokenizer) as front:
            monkeypatch.setattr(front.engine_client, "submit", Broken().submit)
            transport = httpx.ASGITransport(front.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                answer = await client.post(COMPLETIONS, json={"prompt": CANARY})
            assert answer.status_code == 500 and CANARY not in answer.text

    asyncio.run(main())
    assert "ValueError" in lines.getvalue() and CANARY not in lines.getvalue()


def test_cve_2026_54236_what_libraries_say_is_cleaned() -> None:
    """They may be updated, and say more than they do today."""
    for said in (
        "panic at 'x': /root/.cargo/registry/src/index/llguidance-1.9/src/lib.rs:12:5",
        "bad state 0x7f3a9c001230 in parser",
        "lark.rs:10:2: no such rule",
        "no grammar at /usr/lib/python3/dist-packages/llguidance/__init__.py:3",
        "a\nstack backtrace:\n  0: 0x55d0 rust_begin_unwind /rustc/abc/library/std.rs",
    ):
        assert not LEAKS.search(brief(said)), brief(said)
    strange = invalid_request(msgspec.ValidationError(f"{CANARY} at 0x7f3a9c001230"))
    assert strange.message == "It is not what this field takes."
    kept = 'Unimplemented keys: ["uniqueItems"] at #/properties/usr/items'
    assert brief(kept) == kept


def test_cve_2026_94627_nothing_is_left_of_what_was_refused(served: Target) -> None:
    for path, body in WRONG:
        served.call("POST", path, body)
    served.wait_idle()
    assert served.call("GET", "/health").status == 200
    assert served.complete()["choices"]


def test_cve_2026_94625_health_is_no_better_than_the_engine(served: Target) -> None:
    """One that stood still for minutes called itself well. Here it is told within seconds, as is
    its going on; no answer is lost. (A worker that stands still: F28.)"""
    pid = served.server.children()["scheduler-0"]

    def healthy() -> bool:
        return served.call("GET", "/health").status == 200

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(served.complete, max_tokens=64, ignore_eos=True)
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_for(lambda: not healthy(), 15)
            assert served.call("GET", "/health/live").status == 200
        finally:
            os.kill(pid, signal.SIGCONT)
        assert asked.result()["usage"]["completion_tokens"] == 64
    wait_for(healthy, 10)
    assert served.server.children()["scheduler-0"] == pid


INSTALLS = re.compile(r"(?:pip|uv pip|uv) (?:install|sync|add)\b[^&|;\n]*")
PLACES = re.compile(r"--(?:extra-)?index(?:-url)?[ =]\S+|--find-links\S*|(?:PIP|UV)_\w*INDEX\w*")
OF_PYTORCH = "--index-url https://download.pytorch.org/whl/cpu"


def test_cve_2026_54232_no_second_index_is_asked() -> None:
    """A package of its name on another index would win over ours. Images name each by its hash
    (tests/deploy/test_lock.py); only PyTorch's wheels for CPUs are on no other index than its own,
    which is asked for nothing else."""
    files = [ROOT / "pyproject.toml", ROOT / "Makefile", ROOT / "requirements.lock"]
    files += [one for one in (ROOT / "deploy").rglob("*") if one.is_file()]
    installs = []
    for path in files:
        text = path.read_text(errors="replace").replace("\\\n", " ")
        places = PLACES.findall(text)
        assert places == ([OF_PYTORCH] if path.name == "Dockerfile" else []), path
        installs += INSTALLS.findall(text)
    [of_pytorch] = [one for one in installs if OF_PYTORCH in one]
    assert "--no-deps" in of_pytorch and len(installs) > 4


def test_pysec_2026_2_nothing_is_shipped_that_runs_by_being_there() -> None:
    """LiteLLM's: code in a .pth file, run at every start."""
    for room in ("services", "kernels", "shared"):
        kinds = {path.suffix for path in (ROOT / room).rglob("*") if path.is_file()}
        assert not kinds & {".pth", ".pkl", ".pt", ".bin", ".so", ".pickle"}, kinds


def test_cve_2026_92972_no_route_writes_files_or_routes(served: Target) -> None:
    """CVE-2026-7302: names of uploads. CVE-2026-111391: a debugger that evaluates."""
    assert {method for route in SERVED for method in route.methods}.isdisjoint({"PUT", "PATCH"})
    form = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="../../x"\r\n\r\na\r\n--x--'
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for path in ("/v1/files", "/v1/audio/transcriptions", "/upload", "/route", "/debug"):
        for method in ("PUT", "POST"):
            assert served.call(method, path, form, headers).status == 404
    assert served.call("POST", COMPLETIONS, form, headers).status == 400
