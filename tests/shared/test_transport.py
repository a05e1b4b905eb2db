"""Channels over real ipc sockets: typed both ways, robust against frames that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from octavo.shared.messages import Abort, Hello, ToScheduler
from octavo.shared.steps import Stop, ToWorker
from octavo.shared.transport import Hub, Spoke

NAME = "test.ipc"


def wait(hub: Hub[object, object]) -> tuple[bytes, object]:
    if not hub.socket.poll(5000):
        raise TimeoutError
    received = hub.receive()
    assert received is not None
    return received


def test_messages_cross_both_ways(tmp_path: Path) -> None:
    hub: Hub[object, object] = Hub(tmp_path, NAME, ToScheduler)
    spoke: Spoke[object, object] = Spoke(tmp_path, NAME, b"frontend-0", ToWorker)
    spoke.send(Abort(request_ids=[b"x" * 16]))
    assert wait(hub) == (b"frontend-0", Abort(request_ids=[b"x" * 16]))
    assert hub.receive() is None
    hub.send(b"frontend-0", Stop())
    assert spoke.receive(5) == Stop()
    assert spoke.receive(0.01) is None
    hub.send(b"nobody", Stop())
    spoke.close()
    hub.close()


@pytest.mark.parametrize("frame", [b"", b"\xc1", b"\x91\xa4None", bytes(1000)])
def test_malformed_frames_are_dropped_by_a_hub(tmp_path: Path, frame: bytes) -> None:
    hub: Hub[object, object] = Hub(tmp_path, NAME, ToScheduler)
    spoke: Spoke[object, object] = Spoke(tmp_path, NAME, b"frontend-0", ToWorker)
    spoke.socket.send(frame)
    spoke.socket.send_multipart([b"two", b"frames"])
    spoke.send(Hello())
    received = None
    while received is None:
        assert hub.socket.poll(5000)
        received = hub.receive()
    assert received == (b"frontend-0", Hello())
    assert hub.num_malformed == 2
    spoke.close()
    hub.close()


def test_a_strict_spoke_raises(tmp_path: Path) -> None:
    hub: Any = zmq.Context.instance().socket(zmq.ROUTER)
    hub.bind(f"ipc://{tmp_path / NAME}")
    spoke: Spoke[object, object] = Spoke(tmp_path, NAME, b"rank-0", ToWorker, strict=True)
    spoke.send(Hello())
    assert hub.poll(5000)
    hub.recv_multipart()
    hub.send_multipart([b"rank-0", b"\xc1"])
    with pytest.raises(msgspec.DecodeError):
        spoke.receive(5)
    spoke.close()
    hub.close(linger=0)
