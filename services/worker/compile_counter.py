"""Which kernels Triton has compiled in this process, and how many its cache had already."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


class CompileCounter:
    """Counts from `install` on. Without it nothing is counted, and Triton is not imported.

    `progress` is called with each kernel.
    """

    def __init__(self, progress: Callable[[], None] = lambda: None) -> None:
        self._progress = progress
        self.compiled: list[str] = []
        """Names of kernels, in order; one that was specialized twice is there twice."""
        self.from_cache = 0
        self.directory = ""
        """Triton's cache."""
        self.serving = False
        """Set when the start is over: a compilation makes somebody wait from then on."""
        self.while_serving = 0
        self._next: Any = None

    def install(self) -> None:
        """Listen to Triton's compiler, beside whoever listens already."""
        from triton import knobs

        self.directory = str(knobs.cache.dir)
        self._next, knobs.compilation.listener = knobs.compilation.listener, self._note

    def _note(self, *, metadata: Any, cache_hit: bool, **details: Any) -> None:
        self._progress()
        if cache_hit:
            self.from_cache += 1
        else:
            self.compiled.append(str(metadata["name"]))
            if self.serving:
                self.while_serving += 1
                log.warning("kernel %s was compiled while serving", self.compiled[-1])
        if self._next is not None:
            self._next(metadata=metadata, cache_hit=cache_hit, **details)

    def __str__(self) -> str:
        return f"{len(self.compiled)} kernels compiled, {self.from_cache} from the cache"
