"""Admission: new rows take their slots, each by itself.

What is wrong with one (its parameters, its grammar) is its own request's error. The row is computed
nevertheless, from its ids, so that batch, ranks and KV blocks are what the scheduler planned; only
what it samples means nothing, and the result says that the row is broken. Ranks that have no result
to say it with report it (`RowsRefused`): they mostly find the same rows broken, but need not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from octavo.services.worker.failures import lacks_memory
from octavo.services.worker.slots import SlotTable
from octavo.shared.pooling import PoolingParams
from octavo.shared.sampling import SamplingParams
from octavo.shared.steps import NewRow

log = logging.getLogger(__name__)


def admit_each(
    rows: Iterable[NewRow], admit: Callable[[NewRow], None], table: SlotTable
) -> list[int]:
    """`admit` sets every field of a row's slot, those of `table` too, or raises; returns the slots
    of the broken ones.

    Raises what is no row's fault: want of memory, and whatever meets a blank row too.
    """
    broken = []
    for row in rows:
        try:
            admit(row)
        except Exception as error:
            if lacks_memory(error):
                raise
            log.exception("the request in slot %d cannot be taken in", row.slot)
            admit(blank(row))
            table.broken[row.slot] = True
            broken.append(row.slot)
    return broken


def blank(row: NewRow) -> NewRow:
    """The same ids in the same slot, with nothing asked for but what gives a step its shape: ranks
    that have taken the row in compute the same."""
    sampling = SamplingParams(temperature=0.0, prompt_logprobs=row.sampling.prompt_logprobs)
    pooling = None if row.pooling is None else PoolingParams()
    return replace(row, sampling=sampling, pooling=pooling)
