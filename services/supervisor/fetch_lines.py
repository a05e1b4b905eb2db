"""A download's progress as log lines, where the hub's client would draw bars."""

from __future__ import annotations

import io
import logging
import time
from typing import Any

from tqdm import tqdm

from octavo.services.supervisor.progress import SECONDS_PER_LINE, describe
from octavo.shared.process import Status

log = logging.getLogger(__name__)
OF_THE_NETWORK = "Downloading bytes"
"""The client's second bar: the same bytes, before they are unpacked."""


def fetch_lines(model: str) -> type[tqdm]:
    """In place of the client's class of bars."""

    class Lines(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            self._told = time.monotonic()
            options.pop("name", None)
            super().__init__(*args, **{**options, "file": io.StringIO(), "disable": False})

        def display(self, *_: Any, **__: Any) -> bool:
            now = time.monotonic()
            counts = self.unit == "B" and not str(self.desc).startswith(OF_THE_NETWORK)
            if counts and self.n and now - self._told >= SECONDS_PER_LINE:
                self._told = now
                done = Status(
                    state="", phase=model, done=int(self.n), total=self.total or 0, unit="B"
                )
                log.info("%s", describe(done, time.time() - self.start_t, "fetching"))
            return True

    return Lines
