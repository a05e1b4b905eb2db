"""What waits for the workers of a scheduler that was started without them."""

from __future__ import annotations

from sched_harness import request_id, submit_of

from octavo.services.scheduler.lobby import Lobby
from octavo.shared.messages import (
    Abort,
    EngineStats,
    Hello,
    Outputs,
    PageQuery,
    ToFrontend,
    ToScheduler,
)
from octavo.shared.transport import MemoryHub

ONE, TWO = b"frontend-0", b"frontend-1"


class Waiting:
    """A lobby for three requests, of ten tokens together, that was opened at 100 s."""

    def __init__(self) -> None:
        self.now = 100.0
        self.hub: MemoryHub[ToFrontend, ToScheduler] = MemoryHub()
        self.lobby = Lobby(self.hub, 3, max_tokens=10, epoch=7, clock=lambda: self.now)

    def say(self, peer: bytes, *messages: ToScheduler) -> None:
        self.hub.inbox += [(peer, message) for message in messages]
        self.lobby.wait()

    @property
    def refused(self) -> list[tuple[bytes, str | None]]:
        outputs = [message for _, message in self.hub.sent if isinstance(message, Outputs)]
        return [(one.request_id, one.error) for message in outputs for one in message.finished]


def test_frontends_hear_that_workers_are_to_come() -> None:
    waiting = Waiting()
    waiting.say(ONE, Hello(), submit_of(0, [1], arrival_time=1.0))
    (peer, first), (_, second) = waiting.hub.sent
    assert isinstance(first, EngineStats) and isinstance(second, EngineStats)
    assert peer == ONE and first.degraded and first.epoch == 7
    assert second.waiting == 1
    waiting.lobby.wait()
    assert len(waiting.hub.sent) == 2, "not before it is due"
    waiting.now += 0.5
    waiting.say(ONE, Hello())
    assert len(waiting.hub.sent) == 3


def test_the_engine_gets_it_all_in_order_and_then_what_comes() -> None:
    waiting = Waiting()
    submit, abort = submit_of(0, [1], arrival_time=1.0), Abort(request_ids=[request_id(0)])
    waiting.say(ONE, Hello(), PageQuery(query_id=1), submit)
    waiting.say(TWO, Hello(), abort)
    later = submit_of(1, [1])
    waiting.hub.inbox.append((TWO, later))
    got = list(iter(waiting.lobby.receive, None))
    assert got == [(ONE, Hello()), (ONE, submit), (TWO, Hello()), (TWO, abort), (TWO, later)]


def test_only_new_requests_are_bounded() -> None:
    waiting = Waiting()
    waiting.say(ONE, *(submit_of(n, [1], arrival_time=1.0) for n in range(5)))
    assert not waiting.refused
    waiting.say(TWO, submit_of(5, [1], arrival_time=100.5))
    assert waiting.refused == [(request_id(5), "overloaded")]
    waiting.say(ONE, submit_of(6, [1], arrival_time=100.5, goes_on=True))
    assert len(waiting.refused) == 1, "a later step of what has been taken in"


def test_their_tokens_are_bounded_too() -> None:
    waiting = Waiting()
    waiting.say(ONE, submit_of(0, [1] * 8, arrival_time=100.5))
    waiting.say(ONE, submit_of(1, [1] * 3, arrival_time=100.5))
    assert waiting.refused == [(request_id(1), "overloaded")]
    waiting.say(TWO, submit_of(2, [1] * 2, arrival_time=100.5))
    waiting.say(TWO, submit_of(3, [1], arrival_time=100.5))
    assert waiting.refused[1:] == [(request_id(3), "overloaded")]
    waiting.say(TWO, submit_of(4, [1] * 9, arrival_time=1.0))
    assert len(waiting.refused) == 2, "what an earlier scheduler took in"


def test_a_prompt_that_would_wait_alone_may_be_long() -> None:
    waiting = Waiting()
    waiting.say(ONE, submit_of(0, [1] * 11, arrival_time=100.5))
    assert not waiting.refused


def test_who_has_left_waits_no_more() -> None:
    waiting = Waiting()
    waiting.say(ONE, submit_of(0, [1] * 8, arrival_time=100.5))
    waiting.say(ONE, Abort(request_ids=[request_id(0), request_id(7)]))
    waiting.say(TWO, submit_of(1, [1] * 10, arrival_time=100.5))
    assert not waiting.refused
