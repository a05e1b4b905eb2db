"""Snapshot: what the live page shows of this moment. Numbers and names, never what was said.

It is made in the engine's loop, so it must cost the same however much waits, or is cached: lists
are cut before anything is made of them, and blocks are looked at as arrays.
"""

from __future__ import annotations

import heapq
import itertools
import time
from typing import Any

from octavo.services.scheduler.lifecycle import Lifecycle
from octavo.services.scheduler.request import Request
from octavo.shared.messages import EngineStats

MAX_ROWS = 100
"""Of each table; the others are counted."""


def snapshot(life: Lifecycle, stats: EngineStats) -> dict[str, Any]:
    """What can be written as JSON."""
    limits, now = life.limits, life.clock()
    running = heapq.nsmallest(MAX_ROWS, life.running.values(), key=lambda one: one.order)
    return {
        "time": time.time(),
        "step": stats.step,
        "running": stats.running,
        "waiting": stats.waiting,
        "slots": limits.max_num_seqs,
        "context": limits.max_model_len,
        "pooling": limits.pooling,
        "blocks": {"total": stats.blocks_total, "size": limits.block_size, **life.kv.map.counts()},
        "map": life.kv.map.cells(),
        "requests": [_row(life, request, now) for request in running],
        "queue": [_waiting(life, request, why, now) for request, why in _queue(life)],
        "totals": life.metrics.totals(),
        "tenants": _tenants(life),
    }


def _row(life: Lifecycle, request: Request, now: float) -> dict[str, Any]:
    slots, slot = life.slots, request.slot
    return {
        "number": request.serial,
        "colour": request.colour,
        "tenant": life.tenants.name(request.tenant),
        "prompt": request.prompt_len,
        "computed": int(slots.computed[slot]),
        "outputs": max(int(slots.have[slot]) - request.prompt_len, 0),
        "limit": request.limit - request.prompt_len,
        "blocks": len(request.block_ids),
        "cached": request.cached_tokens or 0,
        "seconds": now - request.arrival_time,
    }


def _waiting(life: Lifecycle, request: Request, why: str, now: float) -> dict[str, Any]:
    return {
        "number": request.serial,
        "tenant": life.tenants.name(request.tenant),
        "prompt": request.prompt_len,
        "why": why,
        "seconds": now - request.arrival_time,
    }


def _queue(life: Lifecycle) -> list[tuple[Request, str]]:
    """Those that have waited longest, and for what."""
    gate, lines = life.gate, life.waiting.heads(MAX_ROWS)
    found = [(one, "preempted" if one.num_preemptions else "slot") for one in lines]
    found += [(one, "grammar") for one in itertools.islice(gate.waiting(), MAX_ROWS)]
    held = (one for one in life.trials.held() if not gate.has(one))
    found += [(one, "trial") for one in itertools.islice(held, MAX_ROWS)]
    return sorted(found, key=lambda pair: pair[0].order)[:MAX_ROWS]


def _tenants(life: Lifecycle) -> list[dict[str, Any]]:
    """The busiest first. `tokens`: generated since it came."""
    busiest = heapq.nlargest(MAX_ROWS, life.tenants.present(), key=lambda one: one[2:])
    return [
        {
            "name": name,
            "running": running,
            "waiting": requests - running,
            "tokens": life.metrics.tenants.had(number),
        }
        for number, name, requests, running in busiest
    ]
