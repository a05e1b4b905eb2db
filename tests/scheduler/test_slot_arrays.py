from __future__ import annotations

import numpy as np
from sched_harness import limits_of, submit_of

from octavo.services.scheduler.request import NO_SLOT, Request
from octavo.services.scheduler.slots import Slots, lazy_ids


def request(number: int, prompt: list[int], **fields: object) -> Request:
    return Request.of(b"frontend-0", submit_of(number, prompt, **fields), number, limits_of())


def longs(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.asarray(values, np.int64)


def test_seats_go_to_the_lowest_vacant_slot() -> None:
    slots = Slots(limits_of(max_num_seqs=3))
    requests = [request(number, [1]) for number in range(4)]
    assert [slots.occupy(one, 0, 0, 0) for one in requests[:3]] == [0, 1, 2]
    slots.vacate(requests[2])
    slots.vacate(requests[0])
    assert requests[0].slot == NO_SLOT
    assert slots.occupy(requests[3], 0, 0, 0) == 0
    assert slots.num_vacant == 1


def test_tokens_catch_up_and_come_back() -> None:
    slots = Slots(limits_of())
    one = request(0, [5, 6, 7], max_tokens=2)
    slots.occupy(one, 0, 1, 0)
    assert slots.wanted().tolist() == [2, 0, 0, 0]
    slots.advance(longs(1, 0, 0, 0))
    assert slots.known[0] == 3, "a prompt token is left: nothing is sampled"
    slots.advance(longs(1, 0, 0, 0))
    assert slots.wanted().tolist() == [1, 0, 0, 0]
    assert slots.append(longs(0), np.asarray([9], np.int32)).tolist() == [4]
    slots.advance(longs(1, 0, 0, 0))
    assert slots.wanted().tolist() == [0, 0, 0, 0], "the limit is reached by what is in flight"
    slots.vacate(one)
    assert one.token_ids.tolist() == [5, 6, 7, 9]
    assert not slots.wanted().any()


def test_ends_are_found_among_stop_ids_of_those_who_run() -> None:
    slots = Slots(limits_of())
    one = request(0, [1], eos_token_ids=[3, 1 << 20], max_tokens=9)
    slots.occupy(one, 0, 0, 0)
    slots.occupy(request(1, [1], max_tokens=1), 0, 0, 0)
    found = slots.may_end(longs(0, 1), longs(2, 2), np.asarray([3, 4], np.int32))
    assert found.tolist() == [0, 1]
    slots.vacate(one)
    assert slots.may_end(longs(1), longs(1), np.asarray([3], np.int32)).tolist() == []


def test_lazy_ids_are_zero_and_writable() -> None:
    ids = lazy_ids(5)
    ids[3] = 7
    assert ids.tolist() == [0, 0, 0, 7, 0]
    assert ids.dtype == np.int32
