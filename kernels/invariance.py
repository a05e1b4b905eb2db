"""Batch invariance: what a token's numbers are does not depend on who shares its step.

By default the fastest kernel for each batch is taken, and those sum in different orders. Where this
is switched on, each op has one kernel with one order for every batch: products go through
`invariant_linear`; attention treats single tokens as it does prompts, one key tile after the other.
Norms, rotation, activation and sampling work row by row anyway. (He et al., "Defeating
Nondeterminism in LLM Inference", 2025.)
"""

from __future__ import annotations

_on = False


def switch_on() -> None:
    """For the whole process, before any batch is prepared."""
    global _on
    _on = True


def is_on() -> bool:
    return _on
