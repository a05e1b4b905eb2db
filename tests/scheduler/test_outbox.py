from __future__ import annotations

import numpy as np

from octavo.services.scheduler.outbox import Emission, Outbox, select_logprobs
from octavo.shared.messages import Finished, Logprobs, pack, pack_floats, unpack, unpack_floats
from octavo.shared.steps import StepResult

WIDTH = 2


def logprobs(count: int) -> Logprobs:
    """Row i holds the numbers 10 i, 10 i + 1."""
    numbers = [10 * row + column for row in range(count) for column in range(WIDTH)]
    return Logprobs(
        width=WIDTH,
        token_ids=pack(numbers),
        logprobs=pack_floats([-float(number) for number in numbers]),
        ranks=pack(range(count)),
    )


def emission(rows: list[int], peers: list[int]) -> Emission:
    ids = b"".join(bytes(15) + bytes([row]) for row in rows)
    return Emission(
        np.asarray(rows), np.asarray(peers), np.frombuffer(ids, "V16"), np.asarray(rows, np.int32)
    )


def test_tokens_and_logprobs_reach_their_frontends() -> None:
    outbox = Outbox()
    assert [outbox.peer_number(peer) for peer in (b"x", b"y", b"x")] == [0, 1, 0]
    # Five rows in the plan; row 1 was dropped; rows 0, 1, 3 and 4 asked for logprobs.
    result = StepResult(
        step=1, token_ids=b"", logprob_rows=pack([0, 1, 3, 4]), logprobs=logprobs(4)
    )
    outbox.emit(emission([0, 2, 3, 4], [0, 0, 1, 0]), result)
    letters = dict(outbox.take())
    mine, other = letters[b"x"], letters[b"y"]
    assert [mine.request_ids[15 + 16 * i] for i in range(3)] == [0, 2, 4]
    assert unpack(mine.token_ids).tolist() == [0, 2, 4]
    assert unpack(mine.logprob_rows).tolist() == [0, 2]
    assert mine.logprobs is not None and other.logprobs is not None
    assert unpack(mine.logprobs.token_ids).tolist() == [0, 1, 30, 31]
    assert unpack_floats(mine.logprobs.logprobs).tolist() == [0, -1, -30, -31]
    assert unpack(mine.logprobs.ranks).tolist() == [0, 3]
    assert unpack(other.logprob_rows).tolist() == [0]
    assert unpack(other.logprobs.token_ids).tolist() == [20, 21]
    assert outbox.take() == []


def test_ids_that_end_in_zero_bytes_keep_them() -> None:
    outbox = Outbox()
    outbox.peer_number(b"x")
    request_ids = np.frombuffer(bytes(15) + b"\1" + b"\1" + bytes(15), "V16")
    tokens = np.zeros(2, np.int32)
    outbox.emit(
        Emission(np.arange(2), tokens.astype(int), request_ids, tokens),
        StepResult(step=1, token_ids=b""),
    )
    assert outbox.take()[0][1].request_ids == request_ids.tobytes()


def test_no_logprobs_where_none_of_the_rows_asked() -> None:
    outbox = Outbox()
    outbox.peer_number(b"x")
    result = StepResult(step=1, token_ids=b"", logprob_rows=pack([1]), logprobs=logprobs(1))
    outbox.emit(emission([0, 2], [0, 0]), result)
    assert outbox.take()[0][1].logprobs is None


def test_discarded_letters_are_not_sent() -> None:
    outbox = Outbox()
    outbox.to(b"x").finished.append(Finished(request_id=b"1", reason="abort"))
    outbox.to(b"y").finished.append(Finished(request_id=b"2", reason="abort"))
    outbox.discard(b"x")
    assert [peer for peer, _ in outbox.take()] == [b"y"]


def test_select_keeps_columns_together() -> None:
    chosen = select_logprobs(logprobs(3), np.asarray([2]))
    assert unpack(chosen.token_ids).tolist() == [20, 21]
    assert unpack(chosen.ranks).tolist() == [2]
