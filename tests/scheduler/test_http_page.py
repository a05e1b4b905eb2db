"""Counts of frontends that come, go, and outlive schedulers, as one page."""

from __future__ import annotations

from octavo.services.frontend.http_counts import HttpCounter
from octavo.services.scheduler.http_page import HttpPage
from octavo.shared.messages import HttpCounts

ONE, TWO = b"frontend-0.1", b"frontend-1.2"
EPOCH = 7


def counted(number: int, counter: HttpCounter | None = None) -> HttpCounter:
    counter = counter or HttpCounter()
    for _ in range(number):
        counter.note("/v1/models", "GET", 200, 0.2, 0, 100)
    return counter


def message(counter: HttpCounter, epoch: int = EPOCH) -> HttpCounts:
    return HttpCounts(counter.counts(), epoch)


def requests(page: HttpPage) -> float:
    return sum(sample.value for sample in next(page.families("tiny")).samples)


def test_all_that_are_here_and_all_that_were() -> None:
    page = HttpPage(EPOCH)
    page.note(ONE, message(counted(3)))
    page.note(TWO, message(counted(4)))
    page.note(TWO, message(counted(5)))
    page.leave(ONE)
    assert requests(page) == 8


def test_late_words_of_one_that_has_left_count_nothing_twice() -> None:
    page = HttpPage(EPOCH)
    page.note(ONE, message(counted(3)))
    page.leave(ONE)
    page.note(ONE, message(counted(3)))
    page.leave(ONE)
    assert requests(page) == 3


def test_counts_of_another_schedulers_time_are_passed_over() -> None:
    page = HttpPage(EPOCH)
    page.note(ONE, message(counted(3), EPOCH - 1))
    assert requests(page) == 0


def test_a_frontend_begins_again_with_each_scheduler() -> None:
    """But for what happened while there was none."""
    counter = counted(5)
    counter.heard()
    counted(2, counter)
    assert counter.counts().routes[0].number == 7
    counter.start_over()
    assert counter.counts().routes[0].number == 2 == sum(counter.counts().fine)
