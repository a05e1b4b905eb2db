"""A plan as a table for people, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from octavo.services.plan.advice import gib
from octavo.services.plan.estimate import Estimate


def as_json(found: Estimate) -> dict[str, Any]:
    kept = found.reserve
    return {
        "model": found.model,
        "architecture": found.architecture,
        "device": {
            "name": found.card.name,
            "total_bytes": found.card.total,
            "usable_bytes": found.usable,
        },
        "tensor_parallel_size": found.engine.tensor_parallel_size,
        "dtype": found.engine.dtype,
        "max_model_len": found.max_model_len,
        "max_num_seqs": found.engine.max_num_seqs,
        "max_num_batched_tokens": found.engine.max_num_batched_tokens,
        "weight_bytes": found.weights,
        "weights_from": found.weights_from,
        "step_bytes": kept.step if kept else 0,
        "state_bytes": kept.state if kept else 0,
        "reserve_bytes": kept.graphs + kept.outside if kept else 0,
        "kv_bytes_per_token": found.kv_per_token,
        "kv_bytes": found.num_blocks * found.kv_per_token * (found.engine.block_size or 1),
        "kv_tokens": found.kv_tokens,
        "max_concurrency": round(found.concurrency, 2),
        "requests": [{"length": load.length, "concurrent": load.requests} for load in found.loads],
        "fits": found.fits,
        "advice": found.advice,
    }


def lines(found: Estimate) -> Iterator[str]:
    """The figures of one rank; with several, every rank has the same."""
    engine, card = found.engine, found.card
    ranks = engine.tensor_parallel_size
    yield f"{found.model}  {found.architecture}  {engine.dtype}"
    yield f"on {f'{ranks} x ' if ranks > 1 else ''}{card.name}, {gib(card.total)}"
    yield ""
    each = " a rank" if ranks > 1 else ""
    yield _row(f"usable{each}", gib(found.usable), _share(found))
    yield _row("weights", gib(found.weights), f"from {found.weights_from}")
    if found.reserve is not None:
        yield from _reserve(found)
    if found.kv_per_token:
        yield from _kv(found)
    yield ""
    yield from _verdict(found)


def _share(found: Estimate) -> str:
    if not found.card.is_gpu:
        return "of this machine's memory"
    return f"gpu_memory_utilization {found.engine.gpu_memory_utilization}"


def _reserve(found: Estimate) -> Iterator[str]:
    kept, engine = found.reserve, found.engine
    if kept is None:
        return
    sizes = f"{engine.max_num_batched_tokens} tokens, {engine.max_num_seqs} requests"
    yield _row("largest step", gib(kept.step), sizes)
    yield _row("request slots", gib(kept.state), "")
    yield _row("CUDA and graphs", gib(kept.graphs + kept.outside), "")


def _kv(found: Estimate) -> Iterator[str]:
    per_token = f"{found.kv_per_token / 1024:.1f} KiB a token"
    kv = found.num_blocks * (found.engine.block_size or 1) * found.kv_per_token
    yield _row("KV cache", gib(kv), f"{per_token}: {found.kv_tokens:,} tokens")
    if found.loads:
        yield ""
        yield f"  {'request length':18}{'at once':>12}"
    for load in found.loads:
        yield f"  {load.length:<18,}{_at_once(found, load.length, load.requests):>12}"


def _at_once(found: Estimate, length: int, requests: int) -> str:
    if length > found.max_model_len:
        return f"too long (max_model_len {found.max_model_len})"
    return f"{requests:,}"


def _verdict(found: Estimate) -> Iterator[str]:
    if found.fits:
        yield "It fits" + (f", {_longest_at_once(found)}" if found.kv_per_token else "") + "."
        return
    trouble, *hints = found.advice
    yield f"It does not fit: {trouble}."
    yield from (f"  try {hint}" for hint in hints)


def _longest_at_once(found: Estimate) -> str:
    slots, length = found.engine.max_num_seqs or 1, f"requests of {found.max_model_len:,} tokens"
    if found.concurrency > slots:
        return f"{slots:,} {length} (max_num_seqs; there is room for {found.concurrency:,.0f})"
    return f"{found.concurrency:.1f} {length}"


def _row(name: str, value: str, note: str) -> str:
    return f"  {name:18}{value:>12}  {note}".rstrip()
