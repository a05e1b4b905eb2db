"""The machine beside its GPUs: shared memory, limits, disks, and the port."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from octavo.services.doctor.finding import GIB, Finding, error, ok, warning
from octavo.services.supervisor import listener
from octavo.services.supervisor.admin import ask, default_path
from octavo.services.supervisor.bounds import check_range
from octavo.shared.errors import ConfigError, StartError

SHM = Path("/dev/shm")
SHM_WANTED = GIB
FILES_WANTED, FILES_NEEDED = 8192, 1024
LOCKED_WANTED = 64 << 20
MODELS_WANTED, MODELS_NEEDED = 20 * GIB, GIB
TEMPORARY_WANTED, TEMPORARY_NEEDED = GIB, GIB // 10


def shared_memory(path: Path = SHM) -> Finding:
    try:
        stats = os.statvfs(path)
    except OSError:
        return error("shared memory", f"{path} is missing", f"mount a tmpfs at {path}")
    size = stats.f_frsize * stats.f_blocks
    if size < SHM_WANTED:
        return warning(
            "shared memory",
            f"{path} has {size / GIB:.2f} GiB: several GPUs need more",
            "start the container with --shm-size=1g or --ipc=host",
        )
    return ok("shared memory", f"{size / GIB:.1f} GiB at {path}")


def limits() -> Iterator[Finding]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    locked, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    yield open_files(files)
    yield locked_memory(locked)


def open_files(limit: int) -> Finding:
    fix = "ulimit -n 65536; for systemd LimitNOFILE=65536"
    if limit == resource.RLIM_INFINITY or limit >= FILES_WANTED:
        return ok("open files", _shown(limit))
    say = error if limit < FILES_NEEDED else warning
    return say("open files", f"{limit}: each connection needs one", fix)


def locked_memory(limit: int) -> Finding:
    if limit == resource.RLIM_INFINITY or limit >= LOCKED_WANTED:
        return ok("locked memory", _shown(limit))
    return warning(
        "locked memory",
        f"{limit >> 10} KiB: InfiniBand between hosts needs more; one host does without",
        "ulimit -l unlimited; for systemd LimitMEMLOCK=infinity",
    )


def _shown(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)


def port(host: str, number: int) -> Finding:
    """Raises ConfigError for what is no port."""
    check_range("port", number, 0, 65535)
    try:
        listener.bind(host, number).close()
    except ConfigError as failure:
        return error("port", failure.message, "choose another with --host")
    except StartError as failure:
        return error("port", failure.message + _holder(number), "choose another with --port")
    return ok("port", f"{number} on {host} is free")


def _holder(number: int) -> str:
    """Who has the port, if that is a server of ours."""
    try:
        state = ask(default_path(number), "status")["state"]
    except (StartError, LookupError, TypeError):
        return ""
    return f" (an Octavo server has it: {state})"


def disks(environ: Mapping[str, str]) -> Iterator[Finding]:
    cache, temporary = hub_cache(environ), Path(tempfile.gettempdir())
    hint = "set HF_HOME to a larger disk"
    yield disk("model cache", cache, hint, MODELS_WANTED, MODELS_NEEDED)
    hint = "set TMPDIR to a larger disk"
    yield disk("temporary files", temporary, hint, TEMPORARY_WANTED, TEMPORARY_NEEDED)


def hub_cache(environ: Mapping[str, str]) -> Path:
    home = environ.get("HF_HOME")
    cache = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(environ.get("HF_HUB_CACHE") or Path(home or f"{cache}/huggingface") / "hub")


def disk(name: str, path: Path, fix: str, wanted: int, needed: int) -> Finding:
    """`path` need not exist yet."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    text = f"{free / GIB:.1f} GiB free at {path}"
    if not os.access(existing, os.W_OK):
        return warning(name, f"{path} cannot be written", fix)
    if free < wanted:
        return (error if free < needed else warning)(name, text, f"make room, or {fix}")
    return ok(name, text)
