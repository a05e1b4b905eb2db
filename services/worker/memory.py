"""Memory as figures alone: what `octavo plan` and the worker must reckon alike. Free of torch."""

from __future__ import annotations

import os

GIB = 1 << 30
CPU_KV_BYTES = GIB
GRAPH_RESERVE = 1 * GIB
"""Device memory kept free for CUDA graphs, workspaces and fragmentation."""


def kv_bytes(layers: int, kv_heads: int, head_dim: int, item_bytes: int) -> int:
    """One token's keys and values on one rank."""
    return 2 * layers * kv_heads * head_dim * item_bytes


def host_memory() -> tuple[int, int]:
    """(free, total) bytes of this machine."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = page * os.sysconf("SC_PHYS_PAGES")
    return max(page * os.sysconf("SC_AVPHYS_PAGES"), total // 2), total


def usable(free: int, total: int, utilization: float) -> int:
    return min(free, int(total * utilization))
