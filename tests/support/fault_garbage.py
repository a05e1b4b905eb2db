"""What nobody should have sent to the sockets between the processes."""

from __future__ import annotations

import random
import socket
import struct
from pathlib import Path

import zmq

from octavo.shared.config import FRONTEND_SOCKET, WORKER_SOCKET
from octavo.shared.messages import Abort, Hello, Submit, pack
from octavo.shared.sampling import SamplingParams
from octavo.shared.steps import StepResult, WorkerReady
from octavo.shared.transport import Codec

CODEC: Codec[object] = Codec(object)


def frames(rng: random.Random) -> list[bytes]:
    """Nonsense, halves of messages, and whole ones that nobody should have sent."""
    submit = Submit(b"x" * 16, pack([1, 2]), SamplingParams(), 0.0)
    strange = [
        Submit(b"short", b"odd", SamplingParams(), 0.0),
        Submit(b"y" * 16, pack([-5, 1 << 30]), SamplingParams(), 0.0),
        Submit(b"z" * 16, pack([1]), SamplingParams(), 0.0, output_ids=b"abc"),
        Abort([b"", b"x" * 16, b"q" * 1000]),
        Hello(),
        StepResult(step=1, token_ids=pack([1])),
        WorkerReady(rank=-7, num_blocks=1, epoch=0),
    ]
    whole = [CODEC.encode(message) for message in (submit, *strange)]
    cut = [frame[: rng.randrange(len(frame))] for frame in whole]
    noise = [rng.randbytes(rng.randrange(2000)) for _ in range(50)]
    return [*whole, *cut, b"", b"\xdd\xff\xff\xff\xff", *noise]


def flood(folder: Path, seed: int = 0) -> None:
    """Over ZeroMQ, and as raw bytes that are not even that. `folder`: where the sockets are."""
    rng = random.Random(seed)
    context = zmq.Context()
    for name in (FRONTEND_SOCKET, WORKER_SOCKET):
        peer = context.socket(zmq.DEALER)
        peer.setsockopt(zmq.LINGER, 500)
        peer.connect(f"ipc://{folder / name}")
        for frame in frames(rng):
            peer.send_multipart([frame] * rng.choice([1, 1, 2, 3]))
        peer.close()
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
        huge = greeting + b"\x02" + struct.pack(">Q", 1 << 30) + b"x"
        for data in (b"GET / HTTP/1.1\r\n\r\n", rng.randbytes(4096), greeting, huge):
            with socket.socket(socket.AF_UNIX) as raw:
                raw.connect(str(folder / name))
                raw.sendall(data)
    context.term()
