"""`octavo compile`: fill the kernel cache, so that servers of the same image compile nothing."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import msgspec

from octavo.services.supervisor.children import Spawner
from octavo.services.supervisor.folder import private_directory
from octavo.services.supervisor.group import Group, Plan
from octavo.services.supervisor.progress import Progress
from octavo.services.supervisor.signals import StopRequested, StopSignals
from octavo.shared.config import ModelInfo, ServerConfig
from octavo.shared.errors import ConfigError

log = logging.getLogger(__name__)

INTERRUPTED = 1
PATIENCE = 2.0
"""Seconds that the workers get to stop in."""


def without_weights(server: ServerConfig) -> ServerConfig:
    """Kernels depend on the weights' shapes alone: random ones need no download."""
    engine = msgspec.structs.replace(server.engine, load_format="dummy")
    return msgspec.structs.replace(server, engine=engine)


def compile_kernels(
    server: ServerConfig, model: ModelInfo, spawner: Spawner, log_level: str = "INFO"
) -> int:
    """Let the workers set themselves up as for serving, and stop them; returns the exit code.

    Raises ConfigError without a GPU, StartError where a worker fails.
    """
    if server.engine.device != "cuda":
        raise ConfigError("octavo compile needs a GPU: kernels are compiled for the one it finds")
    with StopSignals() as signals, private_directory() as directory:
        group = Group(spawner)
        group.wake_on(signals.fd)
        progress = Progress()
        try:
            group.start_workers(Plan(directory, server, model, log_level))
            group.wait_ready(progress, signals.raise_if_received)
            reports = [child.info or {} for child in group.children]
            progress.close()
            group.stop("worker", PATIENCE)
        except StopRequested:
            log.error("stopped before everything was compiled")
            return INTERRUPTED
        finally:
            progress.close()
            group.close()
    print("\n".join(summary(reports)), flush=True)
    return 0


def summary(reports: list[dict[str, Any]]) -> list[str]:
    """Each kernel with the number of its variants, then the totals and where they are."""
    compiled = Counter(name for report in reports for name in report.get("compiled", []))
    cached = sum(report.get("from_cache", 0) for report in reports)
    lines = [f"  {count:3}  {name}" for name, count in sorted(compiled.items())]
    total = f"{compiled.total()} kernels compiled, {cached} were in the cache"
    return [*lines, f"{total}: {reports[0].get('cache', '')}"]
