"""Who shares a beginning with whom, as requests come and go."""

from __future__ import annotations

import numpy as np

from octavo.kernels.prefix_plan import PrefixGroup
from octavo.services.worker.shared_prefixes import SharedPrefixes
from octavo.services.worker.slots import SlotTable
from octavo.shared.messages import pack
from octavo.shared.sampling import SamplingParams
from octavo.shared.steps import NewRow, StepPlan

COMMON = [7, 3, 9, 4, 8, 2, 6, 5] * 8


def admit(prefixes: SharedPrefixes, slot: int, blocks: list[int]) -> None:
    prompt = 64 * len(blocks) + 5
    row = NewRow(
        slot=slot,
        prompt_len=prompt,
        num_computed=0,
        token_ids=pack(np.zeros(prompt, np.int32)),
        block_ids=pack([*blocks, 100 + slot]),
        sampling=SamplingParams(),
    )
    prefixes.admit(row)


def groups(
    prefixes: SharedPrefixes, slots: list[int], computed: dict[int, int] | None = None
) -> list[PrefixGroup]:
    """`computed`: tokens of slots that have not got far."""
    plan = StepPlan(step=0, new_rows=[], slots=pack(slots), num_tokens=pack([1] * len(slots)))
    table = SlotTable(8)
    table.computed[:] = 10**6
    for slot, count in (computed or {}).items():
        table.computed[slot] = count
    return prefixes.groups(table.resolve(plan))


def test_rows_with_the_same_blocks_are_a_group() -> None:
    prefixes = SharedPrefixes(8, 64)
    admit(prefixes, 0, [*COMMON, 20])
    admit(prefixes, 1, [1, 2, 3, *COMMON])
    admit(prefixes, 2, [*COMMON, 21, 22])
    assert groups(prefixes, [2, 1, 0]) == [PrefixGroup([0, 2], 2, 64)]
    assert groups(prefixes, [0, 1]) == [], "one alone has nobody to share with"


def test_the_shortest_common_beginning_counts_while_anybody_stays() -> None:
    prefixes = SharedPrefixes(8, 64)
    admit(prefixes, 0, [*COMMON, *range(200, 300)])
    admit(prefixes, 1, [*COMMON, *range(200, 280)])
    assert groups(prefixes, [0, 1]) == [PrefixGroup([0, 1], 0, 144)]
    admit(prefixes, 2, COMMON)
    assert groups(prefixes, [0, 1, 2]) == [PrefixGroup([0, 1, 2], 0, 64)]


def test_a_slot_leaves_with_its_request() -> None:
    prefixes = SharedPrefixes(8, 64)
    admit(prefixes, 0, COMMON)
    admit(prefixes, 1, COMMON)
    admit(prefixes, 1, list(range(300, 400)))
    assert groups(prefixes, [0, 1]) == []


def test_a_first_block_that_has_a_new_owner_starts_a_new_group() -> None:
    prefixes = SharedPrefixes(8, 64)
    admit(prefixes, 0, COMMON)
    assert groups(prefixes, [0]) == []
    admit(prefixes, 3, list(range(300, 310)))
    assert groups(prefixes, [3]) == [], "slot 0 is gone"
    other = [COMMON[0], *range(500, 600)]
    admit(prefixes, 1, other)
    admit(prefixes, 2, other)
    assert groups(prefixes, [1, 2]) == [PrefixGroup([0, 1], 1, 101)]


def test_short_beginnings_are_not_worth_it() -> None:
    prefixes = SharedPrefixes(8, 64)
    admit(prefixes, 0, COMMON[:7])
    admit(prefixes, 1, COMMON[:7])
    admit(prefixes, 2, [*COMMON[:10], 50])
    admit(prefixes, 3, [*COMMON[:10], 51])
    assert groups(prefixes, [0, 1]) == []
    assert groups(prefixes, [2, 3]) == []


def test_a_prompt_on_its_way_through_the_beginning_attends_alone() -> None:
    prefixes = SharedPrefixes(8, 64)
    for slot in range(3):
        admit(prefixes, slot, COMMON)
    assert groups(prefixes, [0, 1, 2], {0: 64 * 64 - 1}) == [PrefixGroup([1, 2], 1, 64)]
    assert groups(prefixes, [0, 1, 2], {0: 64 * 64}) == [PrefixGroup([0, 1, 2], 0, 64)]
