"""HAProxy and nginx (Debian's packages) with the files of deploy/, what stands behind them, and a
name server as Docker has one."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from octavo_server import free_port, wait_for

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
NAMES = ("haproxy", "nginx")


def program(name: str) -> str:
    if (found := shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin")) is None:
        pytest.skip(f"Debian's package {name} is not installed")
    return found


def check(name: str, file: Path) -> subprocess.CompletedProcess[str]:
    """What the program itself says of a file."""
    flags = {"haproxy": ["-c", "-f"], "nginx": ["-t", "-c"]}[name]
    return subprocess.run([program(name), *flags, str(file)], capture_output=True, text=True)


def configured(name: str, folder: Path, port: int, replicas: list[str]) -> Path:
    """The files of deploy/ on other ports; nginx learns there of the replicas."""
    if name == "haproxy":
        text = (DEPLOY / "haproxy.cfg").read_text().replace(":8080", f"127.0.0.1:{port}")
        path = folder / "haproxy.cfg"
        path.write_text(text.replace(":8405", f"127.0.0.1:{free_port()}"))
        return path
    shutil.copytree(DEPLOY / "nginx", folder, dirs_exist_ok=True)
    places = (folder / "replicas.conf").read_text()
    places = re.sub(r"127\.0\.0\.1:810(\d)", lambda one: replicas[int(one[1]) - 1], places)
    (folder / "replicas.conf").write_text(places + temporary_folders(folder))
    path = folder / "nginx.conf"
    text = path.read_text().replace("listen 8080", f"listen 127.0.0.1:{port}")
    path.write_text(text.replace("/run/nginx.pid", f"{folder}/nginx.pid"))
    return path


def temporary_folders(folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)


@contextmanager
def balancing(name: str, folder: Path, replicas: list[str]) -> Iterator[str]:
    """Its URL; `replicas`: two addresses as HOST:PORT."""
    path = configured(name, folder, port := free_port(), replicas)
    variables = {f"REPLICA_{number}": place for number, place in enumerate(replicas, 1)}
    with running(name, path, port, variables) as url:
        yield url


@contextmanager
def balancing_names(name: str, folder: Path, server: NameServer, port: int) -> Iterator[str]:
    """As in docker-compose.yml, but for the name server's address and the replicas' port."""
    path = configured(name, folder, own := free_port(), ["", ""])
    if name == "nginx":
        shutil.copy(folder / "replicas-docker.conf", folder / "replicas.conf")
        path, main = folder / "replicas.conf", path
        path.write_text(path.read_text() + temporary_folders(folder))
    text = path.read_text().replace("127.0.0.11:53", "127.0.0.11")
    text = text.replace("127.0.0.11", server.address).replace(":8000", f":{port}")
    path.write_text(text)
    with running(name, main if name == "nginx" else path, own, {}) as url:
        yield url


@contextmanager
def running(name: str, file: Path, port: int, variables: dict[str, str]) -> Iterator[str]:
    flags = {"haproxy": ["-f"], "nginx": ["-g", "daemon off;", "-c"]}[name]
    process = subprocess.Popen(
        [program(name), *flags, str(file)],
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: listens(port), 10)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.HTTPError:
        return False


class Replica(ThreadingHTTPServer):
    """Answers with the status that a request's body asks for, and says who it is."""

    daemon_threads = True

    def __init__(self, name: str, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((host, port), _Handler)
        self.name = name
        self.full = False
        """Answers 503 to requests, though it is healthy."""
        self.answers: Counter[int] = Counter()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def place(self) -> str:
        return f"{self.server_address[0]!s}:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Replica

    def do_GET(self) -> None:
        self._answer(200)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = 503 if self.server.full else int(body.get("status", 200))
        self.server.answers[status] += 1
        self._answer(status)

    def _answer(self, status: int) -> None:
        data = self.server.name.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def two_replicas() -> Iterator[list[Replica]]:
    both = [Replica("one"), Replica("two")]
    try:
        yield both
    finally:
        for replica in both:
            replica.stop()


class NameServer:
    """Tells the IPv4 addresses in `names`, over UDP; what is not there does not exist."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(4096)
            if not query:
                return
            self._socket.sendto(self._reply(query), sender)

    def _reply(self, query: bytes) -> bytes:
        words, at = [], 12
        while size := query[at]:
            words.append(query[at + 1 : at + 1 + size].decode())
            at += 1 + size
        question = query[12 : at + 5]
        found = self.names.get(".".join(words), [])
        addresses = found if question[-4:-2] == b"\0\1" else []  # type A
        flags = 0x8180 if found else 0x8183
        head = query[:2] + struct.pack(">5H", flags, 1, len(addresses), 0, 0)
        record = b"\xc0\x0c" + struct.pack(">2HIH", 1, 1, 1, 4)
        return head + question + b"".join(record + socket.inet_aton(one) for one in addresses)

    def close(self) -> None:
        host, port = self.address.split(":")
        self._socket.sendto(b"", (host, int(port)))
        self._thread.join()
        self._socket.close()
