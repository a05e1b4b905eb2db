"""How HAProxy and nginx choose among replicas that are full, away, or come with other addresses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from balancers import (
    DEPLOY,
    NAMES,
    NameServer,
    Replica,
    balancing,
    balancing_names,
    check,
    configured,
    is_up,
    two_replicas,
)
from octavo_server import free_port, wait_for

CHAT = "/v1/chat/completions"
by_name = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=20) as client:
        yield client


@by_name
def test_files_are_valid(name: str, tmp_path: Path) -> None:
    shipped = DEPLOY / "haproxy.cfg" if name == "haproxy" else DEPLOY / "nginx" / "nginx.conf"
    places = ["127.0.0.1:8001", "127.0.0.1:8002"]
    for file in (shipped, configured(name, tmp_path, 8080, places)):
        checked = check(name, file)
        if "Permission denied" in checked.stderr:  # nginx looks at its pid file, too
            continue
        assert checked.returncode == 0, checked.stderr
        assert "warn" not in checked.stderr.lower(), checked.stderr


@by_name
def test_one_clients_errors_shut_nobody_out(
    name: str, tmp_path: Path, client: httpx.Client
) -> None:
    """A 504 is what a client gets whose own deadline has passed."""
    with two_replicas() as both, balancing(name, tmp_path, [one.place for one in both]) as url:
        wait_for(lambda: is_up(url), 10)
        for _ in range(20):
            for status in (504, 500, 400, 200):
                assert client.post(url + CHAT, json={"status": status}).status_code == status
        assert all(one.answers[200] + one.answers[504] for one in both)


@by_name
def test_what_a_full_replica_refuses_the_other_answers(
    name: str, tmp_path: Path, client: httpx.Client
) -> None:
    with two_replicas() as both, balancing(name, tmp_path, [one.place for one in both]) as url:
        wait_for(lambda: is_up(url), 10)
        both[0].full = True
        answers = [client.post(url + CHAT, json={}) for _ in range(20)]
        assert {(one.status_code, one.text) for one in answers} == {(200, "two")}
        both[1].full = True
        assert client.post(url + CHAT, json={}).status_code == 503


@by_name
def test_nobody_left_is_an_error_that_clients_read(
    name: str, tmp_path: Path, client: httpx.Client
) -> None:
    places = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"]
    with balancing(name, tmp_path, places) as url:
        wait_for(lambda: client.get(url).status_code == 503, 10)
        answer = client.post(url + CHAT, json={})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.text)["error"]["code"] == "overloaded"


@by_name
def test_replicas_are_found_by_name_when_they_come(
    name: str, tmp_path: Path, client: httpx.Client
) -> None:
    """As in docker-compose.yml: one is missing at the start, then the other one is."""
    one, port = (first := Replica("one", "127.0.0.2")), first.server_port
    two = Replica("two", "127.0.0.3", port)
    with closing(NameServer()) as server:
        server.names = {"octavo-1": ["127.0.0.2"], "octavo": ["127.0.0.2"]}
        with balancing_names(name, tmp_path, server, port) as url:
            wait_for(lambda: is_up(url), 10)
            assert client.post(url + CHAT, json={}).text == "one"
            one.stop()
            server.names = {"octavo-1": ["127.0.0.3"], "octavo": ["127.0.0.3"]}
            wait_for(lambda: is_up(url), 10)
            assert client.post(url + CHAT, json={}).text == "two"
    two.stop()
