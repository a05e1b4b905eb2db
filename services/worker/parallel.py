"""Parallel: this rank among its tensor-parallel peers. The only user of torch.distributed."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist


class Parallel:
    """`rank` of `size`; collectives are no-ops alone. On CUDA they can be captured in graphs."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    @classmethod
    def single(cls) -> Parallel:
        return cls()

    @classmethod
    def create(cls, rank: int, size: int, device: torch.device, rendezvous: Path) -> Parallel:
        """Join `size` ranks through a file that all of them see: gloo on the CPU, NCCL on GPUs.

        A file rather than TCPStore, which listens on every interface.
        """
        if size > 1:
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(
                backend, init_method=f"file://{rendezvous}", rank=rank, world_size=size
            )
        return cls(rank, size)

    def all_reduce(self, x: torch.Tensor) -> torch.Tensor:
        """Sum over the ranks, in place."""
        if self.size > 1:
            dist.all_reduce(x)
        return x

    def all_gather(self, x: torch.Tensor) -> torch.Tensor:
        """[..., n] of each rank -> [..., size * n], in rank order."""
        if self.size == 1:
            return x
        flat = x.new_empty(self.size * x.shape[0], *x.shape[1:])
        _gather(flat, x.contiguous())
        return torch.cat(flat.chunk(self.size), dim=-1)

    def share(self, total: int) -> slice:
        """This rank's part of `total` equal things."""
        each = total // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def destroy(self) -> None:
        if self.size > 1:
            dist.destroy_process_group()


# torch 2.13 renamed it and warns of the old name.
_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
