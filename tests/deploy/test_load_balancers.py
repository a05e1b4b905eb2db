"""HAProxy and nginx (Debian's packages), with the files of deploy/, before two real replicas."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from octavo_server import Server, free_port, wait_for

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
COUNT, CLIENTS, TOKENS = 2000, 16, 12
FLAGS = ("--device", "cpu", "--shutdown-timeout", "20")
BALANCERS = {
    "haproxy": ("haproxy.cfg", ["haproxy", "-f"], ["haproxy", "-c", "-f"]),
    "nginx": ("nginx.conf", ["nginx", "-g", "daemon off;", "-c"], ["nginx", "-t", "-c"]),
}


def configured(name: str, folder: Path, replicas: list[int]) -> tuple[Path, int]:
    """The file of deploy/ with other ports and temporary files, and its port."""
    port = free_port()
    text = (DEPLOY / BALANCERS[name][0]).read_text()
    text = re.sub(r"octavo-(\d):8000", lambda one: f"127.0.0.1:{replicas[int(one[1]) - 1]}", text)
    text = text.replace(":8080", f"127.0.0.1:{port}").replace("listen 8080", f"listen {port}")
    text = text.replace(":8405", f"127.0.0.1:{free_port()}").replace(
        "/tmp/nginx", f"{folder}/nginx"
    )
    path = folder / BALANCERS[name][0]
    path.write_text(text)
    return path, port


def has(name: str) -> str:
    if (found := shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin")) is None:
        pytest.skip(f"Debian's package {name} is not installed")
    return found


@pytest.mark.parametrize("name", BALANCERS)
def test_files_are_valid(name: str, tmp_path: Path) -> None:
    program = has(name)
    path, _ = configured(name, tmp_path, [8001, 8002])
    checked = subprocess.run(
        [program, *BALANCERS[name][2][1:], str(path)], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr.lower().replace("local0 warning", ""), checked.stderr


class Clients:
    """Streams through the balancer, each checked to its end."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/v1/completions"
        self.ends: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self._left = iter(range(COUNT))

    @property
    def progress(self) -> float:
        return sum(self.ends.values()) / COUNT

    async def run(self) -> None:
        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            await asyncio.gather(*(self._go_on(client) for _ in range(CLIENTS)))

    async def _go_on(self, client: httpx.AsyncClient) -> None:
        for number in self._left:
            try:
                self.ends[await self._one(client, number)] += 1
            except httpx.HTTPError as error:
                self.ends[repr(error)] += 1

    async def _one(self, client: httpx.AsyncClient, number: int) -> str:
        body = {
            "prompt": [5 + number % 40] * random.Random(number).randrange(1, 40),
            "max_tokens": TOKENS,
            "ignore_eos": True,
            "stream": True,
            "return_token_ids": True,
            "request_id": f"number-{number}",
        }
        tokens = 0
        async with client.stream("POST", self._url, json=body) as answer:
            if answer.status_code != 200:
                return f"{answer.status_code} {(await answer.aread())[:99]!r}"
            async for line in answer.aiter_lines():
                tokens += line.count('"text"')
                if line == "data: [DONE]":
                    self.ids[f"{number}"] += 1
                    return "done" if tokens else "empty"
        return "cut"


@pytest.fixture
def replicas() -> Iterator[list[Server]]:
    servers = [Server(*FLAGS), Server(*FLAGS)]
    for server in servers:
        server.wait_ready()
    yield servers
    for server in servers:
        server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("name", BALANCERS)
def test_f17_rolling_restart(name: str, replicas: list[Server], tmp_path: Path) -> None:
    """2,000 streams, both replicas restarted under them: none fails, none comes twice."""
    program = has(name)
    path, port = configured(name, tmp_path, [server.port for server in replicas])
    url = f"http://127.0.0.1:{port}"
    balancer = subprocess.Popen([program, *BALANCERS[name][1][1:], str(path)])
    try:
        wait_for(lambda: answers(f"{url}/health"), 20)
        clients = Clients(url)
        asyncio.run(with_restarts(clients, replicas))
    finally:
        balancer.terminate()
        balancer.wait(10)
    print(f"fault=F17 {name} streams={COUNT} value={dict(clients.ends)} limit={{'done': {COUNT}}}")
    assert clients.ends == {"done": COUNT}
    assert len(clients.ids) == COUNT and set(clients.ids.values()) == {1}


async def with_restarts(clients: Clients, replicas: list[Server]) -> None:
    running = asyncio.create_task(clients.run())
    for index in range(len(replicas)):
        while clients.progress < 0.2 + 0.3 * index:
            await asyncio.sleep(0.05)
        replicas[index] = await asyncio.to_thread(restarted, replicas[index])
        await asyncio.sleep(2)  # until every balancer has seen that it is back
    await running


def restarted(server: Server) -> Server:
    assert server.stop() == 0
    again = Server(*FLAGS, port=server.port)
    again.wait_ready()
    return again


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False
