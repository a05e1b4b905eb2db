"""Causal attention of a ragged batch over the paged KV cache: checks and launches.

Two paths over one tile loop (`attention_tiles`): mixed batches take one program for a tile of
query tokens and a KV head; decode batches split each sequence over several programs (flash
decoding, Dao et al., 2023) and combine. Softmax is online (Milakov and Gimelshein, 2018).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import triton

from octavo.kernels.attention_tiles import combine_kernel, decode_kernel, mixed_kernel
from octavo.kernels.batch import ForwardBatch

MAX_HEAD_DIM = 256
MAX_SPLITS = 64
TOKENS_PER_SPLIT = 256
PROGRAMS_PER_SM = 4


def paged_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: ForwardBatch,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
) -> torch.Tensor:
    """q [T, Hq, D] over caches [blocks, Hkv, block_size, D] -> contiguous [T, Hq, D], q's dtype.

    Query j of a row stands at position seq_len - query_len + j and sees the positions up to its
    own, at most the last `window` of them (0: all). `soft_cap` c bounds scores to c * tanh(s / c).
    Padding rows and tokens give zeros. Nothing of a page is read but the positions that a query
    of the program sees. Nothing depends on lengths known to the host only, so that a launch can
    be captured in a CUDA graph. Raises ValueError on shapes that do not fit.
    """
    _check(q, k_cache, v_cache, batch)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    if q.shape[0] == 0 or batch.num_rows == 0:
        return out.zero_()
    call = _Call(q, k_cache, v_cache, batch, out, scale, window, soft_cap)
    if batch.max_query_len == 1 and q.shape[0] == batch.num_rows:
        call.decode()
    else:
        call.mixed()
    return out


def _check(
    q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, batch: ForwardBatch
) -> None:
    if q.dim() != 3 or k_cache.dim() != 4 or k_cache.shape != v_cache.shape:
        raise ValueError(f"q {tuple(q.shape)}, caches {tuple(k_cache.shape)} do not fit.")
    _, kv_heads, block_size, head_dim = k_cache.shape
    if q.shape[2] != head_dim or q.shape[1] % kv_heads:
        raise ValueError(f"q {tuple(q.shape)} does not fit the cache {tuple(k_cache.shape)}.")
    if head_dim > MAX_HEAD_DIM or block_size < 16 or block_size & (block_size - 1):
        raise ValueError(f"head_dim {head_dim} or block_size {block_size} is not supported.")
    if not q.dtype == k_cache.dtype == v_cache.dtype:
        raise ValueError(f"q is {q.dtype}, the caches {k_cache.dtype} and {v_cache.dtype}.")
    if not (k_cache.is_contiguous() and v_cache.is_contiguous()):
        raise ValueError("The caches must be contiguous.")
    if q.stride(-1) != 1 or batch.block_tables.stride(-1) != 1:
        raise ValueError("The last dimension of q and block tables must be contiguous.")
    if [len(batch.query_start) - 1, len(batch.seq_lens)] != [batch.num_rows] * 2:
        raise ValueError(f"query_start or seq_lens does not fit {batch.num_rows} rows.")


@dataclass(frozen=True)
class _Call:
    q: torch.Tensor
    k_cache: torch.Tensor
    v_cache: torch.Tensor
    batch: ForwardBatch
    out: torch.Tensor
    scale: float
    window: int
    soft_cap: float

    @property
    def kv_heads(self) -> int:
        return self.k_cache.shape[1]

    @property
    def group(self) -> int:
        return self.q.shape[1] // self.kv_heads

    @property
    def dim_pad(self) -> int:
        padded: int = triton.next_power_of_2(self.q.shape[2])
        return max(padded, 16)

    @property
    def wide(self) -> bool:
        """float32: no tensor cores, so small tiles and no pipeline."""
        return self.q.dtype == torch.float32

    def mixed(self) -> None:
        """Tiles of whole query tokens; more programs than tiles, for the host knows no lengths."""
        block_m, num_warps = self._mixed_shape()
        tokens = block_m // self.group
        num_tiles = self.q.shape[0] // tokens + self.batch.num_rows
        mixed_kernel[(num_tiles, self.kv_heads)](
            self.out,
            self.q,
            *self._arguments(),
            self.batch.query_start,
            self.batch.num_rows,
            self.q.shape[0],
            **self._constants(block_m),
            num_warps=num_warps,
            num_stages=1 if self.wide else 2,
        )

    def _mixed_shape(self) -> tuple[int, int]:
        """(rows of the query tile, warps): 16 rows a warp, as wgmma has them."""
        if self.wide:
            return max(32, triton.next_power_of_2(self.group)), 4
        rows = self.batch.max_query_len * self.group
        small = rows <= 64 or self.dim_pad > 128
        block_m = max(64 if small else 128, triton.next_power_of_2(self.group))
        return block_m, 4 if block_m == 64 else 8

    def decode(self) -> None:
        num_rows, num_heads, head_dim = self.q.shape
        splits = num_splits(
            num_rows * self.kv_heads, self.batch.max_seq_len, _num_sms(self.q.device)
        )
        partial, lse = self.out, self.out
        if splits > 1:
            shape = (num_rows, num_heads, splits)
            partial = torch.empty((*shape, head_dim), dtype=torch.float32, device=self.q.device)
            lse = torch.empty(shape, dtype=torch.float32, device=self.q.device)
        decode_kernel[(num_rows, self.kv_heads, splits)](
            partial,
            lse,
            self.q,
            *self._arguments(),
            **self._constants(max(16, triton.next_power_of_2(self.group))),
            MIN_TILES=TOKENS_PER_SPLIT // self._tile,
            SPLIT=splits > 1,
            num_warps=4,
            num_stages=1 if self.wide else 2 if self.dim_pad > 128 else 3,
        )
        if splits > 1:
            combine_kernel[(num_rows * num_heads,)](
                self.out, partial, lse, head_dim, SPLITS=splits, DIM_PAD=self.dim_pad, num_warps=4
            )

    @property
    def _tile(self) -> int:
        return 32 if self.wide else 64

    def _arguments(self) -> tuple[object, ...]:
        return (
            self.k_cache,
            self.v_cache,
            self.batch.block_tables,
            self.batch.slots,
            self.batch.seq_lens,
            self.scale,
            *self.q.stride()[:2],
            self.batch.block_tables.stride(0),
        )

    def _constants(self, block_m: int) -> dict[str, object]:
        return {
            "GROUP": self.group,
            "HEAD_DIM": self.q.shape[2],
            "DIM_PAD": self.dim_pad,
            "BLOCK_SIZE": self.k_cache.shape[2],
            "BLOCK_M": block_m,
            "TILE": self._tile,
            "WINDOW": self.window,
            "SOFT_CAP": self.soft_cap,
        }


def num_splits(num_programs: int, max_seq_len: int, num_sms: int) -> int:
    """Programs a sequence of a decode batch, a power of two: enough of them to fill the GPU."""
    wanted = num_sms * PROGRAMS_PER_SM // num_programs
    most: int = min(wanted, triton.cdiv(max_seq_len, TOKENS_PER_SPLIT), MAX_SPLITS)
    return 1 << max(most.bit_length() - 1, 0)


@functools.cache
def _num_sms(device: torch.device) -> int:
    if device.type != "cuda":
        return 132
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
