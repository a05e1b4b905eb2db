"""Presence, frequency and repetition penalties over the tokens that each slot has seen."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK = 2048
OUTPUT_COUNT = tl.constexpr((1 << 30) - 1)


def apply_penalties(
    logits: torch.Tensor,
    slots: torch.Tensor,
    counts: torch.Tensor,
    presence: torch.Tensor,
    frequency: torch.Tensor,
    repetition: torch.Tensor,
) -> None:
    """Penalise logits float32[n, V] in place by what slots int32[n] have said.

    `counts` int32[max_slots, V]: output occurrences in the low 30 bits, bit 30 set for ids of the
    prompt. presence, frequency, repetition: float32[n]. Order and meaning are vLLM's, as in
    `reference_sampling.apply_penalties`. Raises ValueError on shapes that do not fit.
    """
    num_rows, vocab = logits.shape
    if logits.dtype != torch.float32 or logits.stride(1) != 1:
        raise ValueError("logits must be float32 with contiguous rows.")
    if counts.dim() != 2 or counts.shape[1] != vocab or not counts.is_contiguous():
        raise ValueError(f"counts {tuple(counts.shape)} must be [max_slots, {vocab}], contiguous.")
    if any(given.shape != (num_rows,) for given in (slots, presence, frequency, repetition)):
        raise ValueError(f"slots and penalties must have one entry for each of {num_rows} rows.")
    if num_rows:
        _penalties_kernel[(num_rows, triton.cdiv(vocab, BLOCK))](
            logits,
            slots,
            counts,
            presence,
            frequency,
            repetition,
            logits.stride(0),
            vocab,
            BLOCK=BLOCK,
            num_warps=4,
        )


@triton.jit
def _penalties_kernel(
    logits_ptr: tl.tensor,
    slots_ptr: tl.tensor,
    counts_ptr: tl.tensor,
    presence_ptr: tl.tensor,
    frequency_ptr: tl.tensor,
    repetition_ptr: tl.tensor,
    logits_stride: tl.tensor,
    vocab: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < vocab
    slot = tl.load(slots_ptr + row).to(tl.int64)
    said = tl.load(counts_ptr + slot * vocab + at, mask=inside, other=0)
    outputs = said & OUTPUT_COUNT
    logits_at = logits_ptr + row * logits_stride + at
    logits = tl.load(logits_at, mask=inside, other=0.0)
    factor = tl.where(said > 0, tl.load(repetition_ptr + row), 1.0)
    logits = tl.where(logits > 0, tl.div_rn(logits, factor), logits * factor)
    logits -= tl.load(frequency_ptr + row) * outputs.to(tl.float32)
    logits -= tl.where(outputs > 0, tl.load(presence_ptr + row), 0.0)
    tl.store(logits_at, logits, mask=inside)
