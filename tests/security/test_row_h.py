"""Row H: HTTP as nobody's client writes it. Without a key, nothing but the probes is open."""

from __future__ import annotations

import hmac
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bad_requests import CHUNKED, MODELS, SMUGGLED, first, request
from security import COMPLETIONS, KEYS, Target

from octavo.services.frontend.app import SERVED
from octavo.services.frontend.auth import OPEN_PATHS, PAGE_PATHS, KeyRing
from octavo.services.frontend.http_limits import LimitedHttpProtocol
from octavo.services.frontend.server import create_server
from octavo.shared.errors import Unauthorized


def statuses(data: bytes) -> list[int]:
    parts = data.split(b"HTTP/1.1 ")[1:]
    return [int(part[:3]) for part in parts]


@pytest.mark.parametrize("name", SMUGGLED)
def test_cve_2026_48746_no_spelling_gets_past_the_key(served: Target, name: str) -> None:
    """CVE-2026-48710 (a path from the Host header), PYSEC-2026-248, CVE-2026-24206 and
    CVE-2026-24207 (another path to the same)."""
    answer = served.raw(SMUGGLED[name])
    assert b'"object":"list"' not in answer
    assert set(statuses(answer)) <= {400, 401, 405, 501}, answer
    assert served.call("GET", MODELS).status == 200


def test_cve_2025_63389_every_route_asks_for_a_key(served: Target) -> None:
    for route in SERVED:
        for method in (*route.methods, "OPTIONS", "HEAD", "PUT"):
            path = route.path.replace("{model:path}", "demo").replace("{response_id}", "x")
            status = served.call(method, path, key=None).status
            assert (status == 401) == (route.path not in OPEN_PATHS | PAGE_PATHS), (method, path)
    for path in ("/openapi.json", "/docs", "/redoc", "/", "/admin", "/debug", "/../etc/passwd"):
        assert served.call("GET", path, key=None).status == 401


@pytest.mark.parametrize("shown", ["key-0", "key-7", "key-9", "key", "key-99", "", "ключ"])
def test_cve_2025_59425_keys_are_compared_in_constant_time(
    shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever key is shown, each is compared, by digests of one length, and by a comparison that
    does not stop where they differ."""
    ring = KeyRing([f"key-{number}" for number in range(10)])
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    authorization = (b"authorization", f"Bearer {shown}".encode())
    scope = {"type": "http", "path": MODELS, "headers": [authorization]}
    try:
        key = ring.admit(scope)
    except Unauthorized:
        key = None
    assert (key is not None) == (shown in ("key-0", "key-7", "key-9"))
    assert compared == [(32, 32)] * 10


def test_cve_2025_48956_headers_have_bounds(served: Target) -> None:
    large = request(first("/health"), "X-Large: " + "a" * (1 << 20))
    many = request(first("/health"), *(f"X-{number}: a" for number in range(5000)))
    long = request(first("/health?" + "a" * (1 << 20)))
    for data in (large, many, long):
        began = time.monotonic()
        assert set(statuses(served.raw(data))) <= {400}
        assert time.monotonic() - began < 5
    resident = _resident(served)
    served.raw(request(first("/health"), "X-Large: " + "a" * (64 << 20)))
    assert _resident(served) - resident < 16 << 20


FRAMING = {"a trailer": b"0\r\nX: ", "an extension": b"5;ext=", "a chunk's size": b"0"}
MOST = 64 << 20


@pytest.mark.parametrize("name", FRAMING)
def test_cve_2025_48956_what_frames_a_body_has_bounds(served: Target, name: str) -> None:
    """Without them it was a way around those of the head: sixteen such clients, without a key,
    kept the probes waiting for seconds, and hundreds of megabytes."""
    begin = request(f"POST {COMPLETIONS} HTTP/1.1", CHUNKED) + FRAMING[name]

    def sent(_: int) -> int:
        """Bytes until the server had enough."""
        with socket.create_connection(("127.0.0.1", served.server.port), timeout=20) as peer:
            count = 0
            try:
                peer.sendall(begin)
                while count < MOST:
                    peer.sendall(b"0" * (1 << 16))
                    count += 1 << 16
            except ConnectionError:
                pass
            return count

    resident = _resident(served)
    with ThreadPoolExecutor(16) as pool:
        assert max(pool.map(sent, range(16))) < MOST
    assert _resident(served) - resident < 32 << 20
    assert served.call("GET", "/health").status == 200


def test_an_answer_ends_the_wait_for_a_body(served: Target) -> None:
    """With a byte now and then a connection was there for ever, with a key or without."""

    def taken(path: str) -> int:
        """Bytes, one in half a second, until the server closes."""
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", served.server.port), timeout=20) as peer:
            peer.sendall(head.encode())
            assert statuses(peer.recv(4096)) in ([200], [401], [405])
            for count in range(60):
                try:
                    peer.sendall(b"x")
                except ConnectionError:
                    return count
                time.sleep(0.5)
        return count

    with ThreadPoolExecutor(3) as pool:
        assert max(pool.map(taken, ("/health", MODELS, COMPLETIONS))) < 59


def _resident(served: Target) -> int:
    pid = served.server.children()["frontend-0"]
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_cve_2025_23310_a_body_in_many_chunks(served: Target) -> None:
    """CVE-2025-23311, CVE-2025-23317, CVE-2025-23319 and CVE-2025-23320: chunks on the stack."""
    body = '{"prompt": "a", "max_tokens": 1}' + " " * 50_000
    chunks = "".join(f"1\r\n{character}\r\n" for character in body) + "0\r\n\r\n"
    line = f"POST {COMPLETIONS} HTTP/1.1"
    answer = served.raw(request(line, CHUNKED, body=chunks, key=KEYS[0]), seconds=20)
    assert statuses(answer) in ([200], [499], [])  # the client has closed its side
    huge = request(line, CHUNKED, body="ffffffffffffffff\r\nx", key=KEYS[0])
    assert set(statuses(served.raw(huge))) <= {400, 499}
    assert served.complete()["choices"]


def test_cve_2025_43859_the_parser_is_a_strict_one() -> None:
    """h11 let a chunk end in anything. Ours is llhttp."""
    config = create_server(lambda *_: None).config  # type: ignore[arg-type]
    assert config.http is LimitedHttpProtocol
    assert not config.ws or config.ws == "none"


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v1/models/../../../etc/passwd",
     "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/v1/responses/..%2f..%2fetc%2fpasswd"],
)  # fmt: skip
def test_cve_2026_24208_no_path_is_a_files(served: Target, path: str) -> None:
    """CVE-2026-47627 likewise."""
    answer = served.raw(request(first(path), key=KEYS[0]))
    assert statuses(answer) == [404] and b"root:" not in answer
