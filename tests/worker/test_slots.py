"""The host's mirror of slots: what a plan means, without a device."""

from __future__ import annotations

import numpy as np

from octavo.services.worker.slots import FROM_DEVICE, SlotTable
from octavo.shared.messages import pack
from octavo.shared.sampling import SamplingParams
from octavo.shared.steps import NewRow, StepPlan


def row(slot: int, tokens: list[int], computed: int = 0, **params: float) -> NewRow:
    return NewRow(
        slot=slot,
        prompt_len=len(tokens),
        num_computed=computed,
        token_ids=pack(tokens),
        block_ids=b"",
        sampling=SamplingParams(**params),  # type: ignore[arg-type]
    )


def plan(slots: list[int], num_tokens: list[int]) -> StepPlan:
    return StepPlan(step=0, new_rows=[], slots=pack(slots), num_tokens=pack(num_tokens))


def test_prompt_in_chunks_samples_only_at_its_end() -> None:
    table = SlotTable(4)
    table.admit(row(2, [10, 11, 12, 13, 14]))
    first = table.resolve(plan([2], [3]))
    assert first.host_ids.tolist() == [10, 11, 12]
    assert first.samples.tolist() == []
    second = table.resolve(plan([2], [2]))
    assert second.host_ids.tolist() == [13, 14]
    assert second.samples.tolist() == [0]
    assert second.positions.tolist() == [5]


def test_decode_takes_its_id_from_the_device() -> None:
    table = SlotTable(4)
    table.admit(row(0, [7]))
    table.resolve(plan([0], [1]))
    step = table.resolve(plan([0], [1]))
    assert step.host_ids.tolist() == [FROM_DEVICE]
    assert step.computed.tolist() == [1]
    assert step.positions.tolist() == [2]
    assert step.decode_only


def test_mixed_batch_keeps_row_order() -> None:
    table = SlotTable(4)
    table.admit(row(3, [1, 2]))
    table.resolve(plan([3], [2]))
    table.admit(row(1, [5, 6, 7], computed=1))
    step = table.resolve(plan([3, 1], [1, 2]))
    assert step.query_start.tolist() == [0, 1, 3]
    assert step.host_ids.tolist() == [FROM_DEVICE, 6, 7]
    assert step.samples.tolist() == [0, 1]
    assert not step.decode_only


def test_admission_resets_every_field() -> None:
    table = SlotTable(1)
    table.admit(row(0, [1], temperature=2.0, top_k=5, top_p=0.5, min_p=0.1, presence_penalty=1.0))
    fresh = SlotTable(1)
    for used in (table, fresh):
        used.admit(row(0, [9, 9], temperature=0.0))
    for name, value in vars(fresh).items():
        if isinstance(value, np.ndarray):
            assert np.array_equal(value, getattr(table, name)), name
    assert not table.penalized[0]
