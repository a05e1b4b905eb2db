"""A server with secrets around it, and clients that mean it no good."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from octavo_server import Server, parent_of, serving

KEYS = ("canary-key-alpha-7f3a91d2", "canary-key-beta-5d20c4e8")
OTHER_SECRET = "canary-cloud-secret-93be"
"""In the server's environment, and nobody's business."""
SECRETS = (*KEYS, OTHER_SECRET)
SECRET_NAMES = (
    *("HF_TOKEN", "HF_HUB_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "NVIDIA_API_KEY"),
    *(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "OTEL_AUTH",
        "NGC_API_KEY",
    ),
    *("PYTHON_KEYRING_BACKEND", "PYTHONSTARTUP", "TORCH_TOKEN", "CUDA_KEY", "OMP_PASSWORD"),
    *("TRITON_SECRET", "HTTPS_PROXY", "NOTIFY_SOCKET_KEY", "LD_PRELOAD_KEY", "NCCL_AUTH"),
)
"""Of variables that it stands in, some close to what children do get."""
COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
BOMB = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
"""A chat template that takes for ever."""
LEAKS = re.compile(
    r"0x[0-9a-f]{6,}|Traceback|\bobject at\b|\.py\b|line \d+|[a-z]Error\b|/work/|/usr/"
)
"""Heap addresses, and what Python's own errors say."""


@dataclass
class Answer:
    status: int
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def error(self) -> Any:
        return self.json["error"]


@dataclass(frozen=True)
class Target:
    server: Server
    folder: Path
    """Its TMPDIR: sockets and nothing else."""

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        key: str | None = KEYS[0],
    ) -> Answer:
        """`body`: bytes, or what becomes JSON."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), dict(answer.getheaders()))
        finally:
            connection.close()

    def post(self, path: str, key: str | None = KEYS[0], **body: Any) -> Answer:
        return self.call("POST", path, body, key=key)

    def complete(self, **fields: Any) -> Any:
        answer = self.post(COMPLETIONS, **{"prompt": "Tell me", "max_tokens": 4, **fields})
        if answer.status != 200:
            raise RuntimeError(answer.data)
        return answer.json

    def raw(self, data: bytes, seconds: float = 5) -> bytes:
        """What comes back until the server closes, or says nothing more."""
        received = b""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=seconds) as peer:
            try:
                peer.sendall(data)
                peer.shutdown(socket.SHUT_WR)
                while chunk := peer.recv(1 << 16):
                    received += chunk
            except OSError:
                pass
        return received

    def metrics(self) -> str:
        return self.call("GET", "/metrics").data.decode()

    def tree(self) -> list[int]:
        """Pids of the supervisor and all below it."""
        return tree(self.server.process.pid)

    def wait_idle(self) -> None:
        pattern = r"^vllm:(?:num_requests_(?:running|waiting)|kv_cache_usage_perc)(?:{.*})? (\S+)$"
        for _ in range(200):
            if not any(map(float, re.findall(pattern, self.metrics(), re.M))):
                return
        raise TimeoutError("it does not come to rest")


@contextmanager
def target(*flags: str, **environment: str) -> Iterator[Target]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="sec-") as name:
        secrets = {"OCTAVO_API_KEY": " ".join(KEYS), "AWS_SECRET_ACCESS_KEY": OTHER_SECRET}
        secrets |= dict.fromkeys(SECRET_NAMES, OTHER_SECRET)
        own = {"TMPDIR": name, **secrets, **environment}
        flags = ("--device", "cpu", "--served-model-name", "demo", *flags)
        with serving(*flags, env=own) as server:
            yield Target(server, Path(name))


def tree(root: int) -> list[int]:
    parents = {int(one.name): parent_of(int(one.name)) for one in Path("/proc").glob("[0-9]*")}
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


@dataclass(frozen=True)
class Socket:
    """`address`: where it is bound; `local`: the port there."""

    address: str
    local: int
    remote: str
    listens: bool

    @property
    def is_loopback(self) -> bool:
        """Whether nobody reaches it from another host."""
        address = ipaddress.ip_address(self.address)
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback


def address_of(digits: str) -> str:
    """As the kernel prints it: words of four bytes, each the other way round."""
    data = bytes.fromhex(digits)
    words = (data[at : at + 4][::-1] for at in range(0, len(data), 4))
    return str(ipaddress.ip_address(b"".join(words)))


def tcp_sockets(pids: list[int]) -> list[Socket]:
    """Internet sockets that any of the processes holds, each once; UDP ones listen."""
    inodes = {inode for pid in pids for inode in _inodes(pid)}
    found = []
    for name in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes:
                listens = fields[3] == "0A" or not name.startswith("tcp")
                address, _, port = fields[1].rpartition(":")
                found.append(Socket(address_of(address), int(port, 16), fields[2], listens))
    return found


def _inodes(pid: int) -> Iterator[str]:
    try:
        links = [os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return
    for link in links:
        if link.startswith("socket:["):
            yield link[8:-1]
