"""How many tokens of prompts go into a step beside rows that decode.

A step takes as long as its tokens do, and every row that decodes waits for its end: prompts taken
whole make streams stutter. So a step that decodes takes a small share of prompts along. But a
small share is a low rate of prompts: where many tokens wait, it grows with them, until steps are
as full as the budget allows and throughput is what it would be without.
"""

from __future__ import annotations

STEPS = 8
"""What waits is to be gone in about so many: each takes one token in so many of it."""


def prefill_share(backlog: int, floor: int) -> int:
    """The most tokens of prompts in a step with rows that decode.

    `backlog`: tokens of prompts still to be computed, whether running or waiting; those of a
    waiting one that the prefix cache will give count too. `floor`: the share when they are few.
    """
    return max(floor, backlog // STEPS)
