"""A batch's requests, so many at a time, until all are answered."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import httpx
from tqdm import tqdm

from octavo.services.batch.answers import Answer, AnswerFile
from octavo.services.batch.client import Address, ServerGone, answer
from octavo.services.batch.jobs import Job
from octavo.services.supervisor.group import ChildDied
from octavo.services.supervisor.signals import StopRequested

SECONDS_PER_LINE = 10.0
"""How often a progress that goes to a file is written."""


@dataclass
class Tally:
    """How a run went. `before`: answered by earlier ones."""

    total: int
    before: int = 0
    answered: int = 0
    failed: int = 0
    started: float = field(default_factory=time.monotonic)

    def note(self, given: Answer) -> None:
        if given.good:
            self.answered += 1
        else:
            self.failed += 1

    @property
    def complete(self) -> bool:
        return self.before + self.answered == self.total

    def summary(self) -> str:
        seconds = time.monotonic() - self.started
        text = f"{self.before + self.answered} of {self.total} requests answered"
        parts = [
            f"{self.answered} now in {seconds:.1f} s",
            *([f"{self.before} before"] if self.before else []),
            *([f"{self.failed} failed"] if self.failed else []),
        ]
        return f"{text} ({', '.join(parts)})"


def still_to_do(jobs: Iterable[Job], done: set[str]) -> Iterator[Job]:
    return (job for job in jobs if job.custom_id not in done)


@dataclass(frozen=True)
class Watch:
    """What may end a run early: when `fd` is readable, `check` raises or there was nothing."""

    fd: int
    check: Callable[[], None]


async def run_jobs(
    jobs: Iterator[Job],
    address: Address,
    watch: Watch,
    answers: AnswerFile,
    tally: Tally,
    concurrency: int,
) -> str | None:
    """Answer every job; returns what ended the run before that, if anything did."""
    with _bar(tally) as bar:
        work = asyncio.create_task(_all(jobs, address, answers, tally, concurrency, bar))
        trouble: list[str] = []

        def look() -> None:
            try:
                watch.check()
            except StopRequested:
                trouble.append("stopped")
            except ChildDied as error:
                trouble.append(str(error))
            if trouble:
                work.cancel()

        asyncio.get_running_loop().add_reader(watch.fd, look)
        try:
            await work
        except asyncio.CancelledError:
            return trouble[0]
        except ServerGone as error:
            return error.message
        finally:
            asyncio.get_running_loop().remove_reader(watch.fd)
    return None


async def _all(
    jobs: Iterator[Job],
    address: Address,
    answers: AnswerFile,
    tally: Tally,
    concurrency: int,
    bar: tqdm[None],
) -> None:
    async def one_after_another(client: httpx.AsyncClient) -> None:
        for job in jobs:  # shared: each takes what is next
            given = await answer(client, job)
            answers.add(given)
            tally.note(given)
            bar.update()

    async with address.connect(concurrency) as client:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(one_after_another(client))
        except* ServerGone as gone:
            raise gone.exceptions[0] from None


def _bar(tally: Tally) -> tqdm[None]:
    interval = 0.1 if sys.stderr.isatty() else SECONDS_PER_LINE
    return tqdm(
        total=tally.total, initial=tally.before, unit="req", mininterval=interval, file=sys.stderr
    )
