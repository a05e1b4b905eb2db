"""Bit masks over the vocabulary: what constraints on an output leave of a row of logits."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK = 4096


def apply_bitmask(logits: torch.Tensor, rows: torch.Tensor, masks: torch.Tensor) -> None:
    """Set to -inf, in place, what the masks of some rows do not allow.

    logits [n, V] of any float dtype; rows int64[m], each at most once; masks int32[m, words]: bit
    `i % 32` of word `i // 32` stands for id i, 1 is allowed. Other rows are not read. Raises
    ValueError on shapes that do not fit.
    """
    num_masks, vocab = rows.shape[0], logits.shape[1]
    if masks.shape != (num_masks, triton.cdiv(vocab, 32)) or masks.dtype != torch.int32:
        raise ValueError(f"masks {tuple(masks.shape)} must be int32[{num_masks}, {vocab} bits].")
    if logits.stride(1) != 1 or not masks.is_contiguous():
        raise ValueError("logits and masks must have contiguous rows.")
    if num_masks:
        _bitmask_kernel[(num_masks, triton.cdiv(vocab, BLOCK))](
            logits, rows, masks, logits.stride(0), masks.stride(0), vocab, BLOCK=BLOCK, num_warps=4
        )


@triton.jit
def _bitmask_kernel(
    logits_ptr: tl.tensor,
    rows_ptr: tl.tensor,
    masks_ptr: tl.tensor,
    logits_stride: tl.tensor,
    masks_stride: tl.tensor,
    vocab: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < vocab
    mask_ptr = masks_ptr + tl.program_id(0).to(tl.int64) * masks_stride
    words = tl.load(mask_ptr + at // 32, mask=inside, other=-1)
    banned = ((words >> (at % 32)) & 1) == 0
    row = tl.load(rows_ptr + tl.program_id(0))
    nothing = tl.full([BLOCK], float("-inf"), logits_ptr.dtype.element_ty)
    tl.store(logits_ptr + row * logits_stride + at, nothing, mask=inside & banned)
