"""Read parts of checkpoint files into parameters: several threads, staging buffers, no mmap.

Each thread reads pieces of at most a buffer with preadv and copies them to the device. Its buffers
are pinned and its copies run on a stream of its own, so that it fills one buffer while the device
empties the other. On the CPU the same code runs without pinning, streams and events.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from io import FileIO
from itertools import cycle
from pathlib import Path

import torch

from octavo.services.worker.checkpoint import StoredTensor
from octavo.services.worker.layers.placement import Placement
from octavo.shared.errors import ConfigError

READERS = 8
STAGES = 2
STAGE_BYTES = 16 << 20
"""Enough for a copy at full speed; all threads' buffers together take little time to pin."""
FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


@dataclass(frozen=True)
class Piece:
    """`rows` indices of a stored tensor's dimension 0 from `first`, for one placement."""

    tensor: StoredTensor
    placement: Placement
    first: int
    rows: int

    @property
    def row_bytes(self) -> int:
        return self.tensor.num_bytes // self.tensor.shape[0]

    @property
    def num_bytes(self) -> int:
        return self.rows * self.row_bytes

    @property
    def offset(self) -> int:
        return self.tensor.offset + self.first * self.row_bytes

    def put(self, staged: torch.Tensor) -> None:
        """Enqueue the copy of the rows, `staged` as stored, to where they belong."""
        place = self.placement
        rows = staged.view(FLOATS[self.tensor.dtype]).view(self.rows, *self.tensor.shape[1:])
        begin = self.first
        if place.dim == 0:
            begin -= place.start
        elif place.target.shape[place.dim] < rows.shape[place.dim]:
            # Cut on the device: a strided copy from the host would go through pageable memory.
            rows = rows.to(place.target.device, non_blocking=True)
            rows = rows.narrow(place.dim, place.start, place.target.shape[place.dim])
        place.target[begin : begin + self.rows].copy_(rows, non_blocking=True)


def pieces_of(
    tensor: StoredTensor, placement: Placement, stage_bytes: int = STAGE_BYTES
) -> Iterator[Piece]:
    """The rows that `placement` needs, as many at a time as fit a buffer (at least one)."""
    if not tensor.shape:
        tensor, placement = replace(tensor, shape=(1,)), Placement(placement.target.view(1), (1,))
    if not tensor.num_bytes:
        return
    whole = placement.dim > 0
    first, last = (0, tensor.shape[0]) if whole else (placement.start, placement.stop)
    step = max(stage_bytes * tensor.shape[0] // tensor.num_bytes, 1)
    for at in range(first, last, step):
        yield Piece(tensor, placement, at, min(step, last - at))


def read_pieces(pieces: list[Piece], device: torch.device, done: Callable[[int], None]) -> None:
    """Read every piece; `done` gets the bytes of each, from any thread.

    Raises ConfigError naming file and tensor for what cannot be read.
    """
    # Neighbours are read about the same time, which is what disks and networks like.
    waiting = deque(sorted(pieces, key=lambda piece: (piece.tensor.path, piece.offset)))
    size = max((piece.num_bytes for piece in pieces), default=0)

    @torch.inference_mode()  # it is per thread
    def work() -> None:
        stages = _Stages(device, size)
        try:
            while (piece := _take(waiting)) is not None:
                stages.move(files[piece.tensor.path], piece)
                done(piece.num_bytes)
        finally:
            waiting.clear()  # after an error the others stop too
            stages.close()

    paths = {piece.tensor.path for piece in pieces}
    with _opened(paths) as files, ThreadPoolExecutor(READERS) as pool:
        try:
            for future in [pool.submit(work) for _ in range(READERS)]:
                future.result()
        finally:
            waiting.clear()  # told to exit: the pool waits for its threads
    if device.type == "cuda":
        _free_pinned()


def _take(waiting: deque[Piece]) -> Piece | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


class _Stage:
    """A buffer, and the event after which its last copy has left it."""

    def __init__(self, num_bytes: int, pinned: bool) -> None:
        self.buffer = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=pinned)
        self.memory = self.buffer.numpy().data
        # Blocking: a thread that spins here would take a core from those that read.
        self.left = torch.cuda.Event(blocking=True) if pinned else None  # type: ignore[no-untyped-call]


class _Stages:
    """One thread's buffers, used in turn, and the stream that empties them."""

    def __init__(self, device: torch.device, num_bytes: int) -> None:
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            torch.cuda.set_device(device)  # it is per thread
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            # What initialized the parameters must not overwrite what is read.
            self._stream.wait_stream(torch.cuda.default_stream(device))
        pinned = self._stream is not None
        self._stages = cycle([_Stage(num_bytes, pinned) for _ in range(STAGES)])

    def move(self, file: int, piece: Piece) -> None:
        """From the file to the device; the second half is only enqueued."""
        stage = next(self._stages)
        if stage.left is not None:
            stage.left.synchronize()
        _read(file, piece, stage.memory[: piece.num_bytes])
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            piece.put(stage.buffer[: piece.num_bytes])
            if stage.left is not None:
                stage.left.record()

    def close(self) -> None:
        """Wait until everything is where it belongs."""
        if self._stream is not None:
            self._stream.synchronize()


def _read(file: int, piece: Piece, memory: memoryview) -> None:
    where = f"{piece.tensor.path}: tensor {piece.tensor.name}"
    at = 0
    while at < len(memory):
        try:
            count = os.preadv(file, [memory[at:]], piece.offset + at)
        except OSError as error:
            raise ConfigError(f"{where}: {error.strerror}") from error
        if count == 0:
            raise ConfigError(f"{where}: the file is shorter than its header says.")
        at += count


@contextmanager
def _opened(paths: Iterable[Path]) -> Iterator[dict[Path, int]]:
    with ExitStack() as stack:
        yield {path: stack.enter_context(_open(path)).fileno() for path in paths}


def _open(path: Path) -> FileIO:
    try:
        return FileIO(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _free_pinned() -> None:
    """torch keeps pinned memory for its next use, which for ours does not come."""
    # torch 2.11 has but the private name.
    empty = getattr(torch.accelerator, "empty_host_cache", None) or torch._C._host_emptyCache
    empty()
