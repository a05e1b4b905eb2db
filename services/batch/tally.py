"""How a batch's run goes: counts, and how they are shown."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tqdm import tqdm

from octavo.services.batch.answers import Answer

log = logging.getLogger(__name__)
SECONDS_PER_LINE = 10.0


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


@contextmanager
def report_on(tally: Tally) -> Iterator[Callable[[], object]]:
    """To be called after each answer: a bar on a terminal, a log line per 10 s elsewhere."""
    if sys.stderr.isatty():
        with tqdm(total=tally.total, initial=tally.before, unit="req", file=sys.stderr) as bar:
            yield bar.update
    else:
        yield Lines(tally)


class Lines:
    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._last = time.monotonic()

    def __call__(self) -> None:
        now, tally = time.monotonic(), self._tally
        if now - self._last >= SECONDS_PER_LINE:
            self._last = now
            done = tally.before + tally.answered + tally.failed
            rate = (tally.answered + tally.failed) / (now - tally.started)
            log.info("%d of %d requests, %.1f a second", done, tally.total, rate)
