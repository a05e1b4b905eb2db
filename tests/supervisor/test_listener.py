"""The port: bound early, listened on late, and told of in words."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from octavo.services.supervisor import listener
from octavo.services.supervisor.settings import parse_file
from octavo.shared.errors import ConfigError, ResourceBusy


def test_bound_is_not_listening() -> None:
    with listener.bind("127.0.0.1", 0) as bound:
        address = bound.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)
        listener.listen(bound)
        socket.create_connection(address, timeout=5).close()
        assert listener.url(bound) == f"http://127.0.0.1:{address[1]}"


def test_of_two_that_bound_one_may_listen() -> None:
    with listener.bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with listener.bind("127.0.0.1", port) as second:
            listener.listen(first)
            with pytest.raises(ResourceBusy, match=f"port {port} on 127.0.0.1 is in use"):
                listener.listen(second)


@pytest.mark.parametrize("host", ["a..b", "192.0.2.1"])
def test_an_address_that_is_not_ours(host: str) -> None:
    with pytest.raises(ConfigError):
        listener.bind(host, 0)


def test_the_example_file_is_valid() -> None:
    example = Path(__file__).parent.parent.parent / "deploy" / "systemd" / "octavo.toml"
    assert parse_file(example)["max_model_len"] == 32768
