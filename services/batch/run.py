"""A batch's requests, so many at a time, until all are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import httpx

from octavo.services.batch.answers import AnswerFile
from octavo.services.batch.client import Address, ServerGone, answer
from octavo.services.batch.jobs import Job
from octavo.services.batch.tally import Tally, report_on
from octavo.services.supervisor.group import ChildDied
from octavo.services.supervisor.signals import StopRequested


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
    with report_on(tally) as report:
        work = asyncio.create_task(_all(jobs, address, answers, tally, concurrency, report))
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
    report: Callable[[], object],
) -> None:
    async def one_after_another(client: httpx.AsyncClient) -> None:
        for job in jobs:  # shared: each takes what is next
            given = await answer(client, job)
            answers.add(given)
            tally.note(given)
            report()

    async with address.connect(concurrency) as client:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(one_after_another(client))
        except* ServerGone as gone:
            raise gone.exceptions[0] from None
