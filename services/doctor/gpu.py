"""The GPUs, their driver, and what Triton needs to compile kernels for them."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from octavo.services.doctor.finding import GIB, Finding, error, ok, warning
from octavo.services.supervisor.nvidia_smi import Gpu, list_gpus

DEVICES = Path("/dev")
DRIVERS = {12: "525.60", 13: "580.65"}
"""The least that a CUDA of that number runs with."""
OLDEST = 8.0
"""Compute capability of Ampere, the first with bfloat16."""
MOSTLY_FREE = 0.9


def gpus() -> Iterator[Finding]:
    found = list_gpus()
    if not found:
        yield _without()
    for gpu in found:
        yield _one(gpu)
    if found:
        yield _driver(found[0].driver, cuda_of_torch())


def _without() -> Finding:
    if any(DEVICES.glob("nvidia[0-9]*")):
        return error(
            "GPU",
            "there is a device file, but nvidia-smi does not answer",
            "run nvidia-smi; in a container start it with --gpus all",
        )
    return warning(
        "GPU",
        "none: models run on the CPU, which is slow for all but small ones",
        "if the machine has one, install NVIDIA's driver; in a container start it with --gpus all",
    )


def _one(gpu: Gpu) -> Finding:
    text = f"{gpu.name}, {gpu.total / GIB:.1f} GiB, compute capability {gpu.capability}"
    if float(gpu.capability or 0) < OLDEST:
        return warning("GPU", f"{text}: it lacks bfloat16", "serve with --dtype float16")
    if gpu.free < MOSTLY_FREE * gpu.total:
        used = f"{(gpu.total - gpu.free) / GIB:.1f} GiB of it are in use by others"
        return warning(
            "GPU", f"{text}; {used}", "stop them, or lower --gpu-memory-utilization accordingly"
        )
    return ok("GPU", text)


def _driver(driver: str, cuda: int | None) -> Finding:
    least = DRIVERS.get(cuda or 0)
    if least is None or _numbers(driver) >= _numbers(least):
        return ok("driver", driver)
    return error(
        "driver",
        f"{driver}, but torch's CUDA {cuda} needs {least} or newer",
        f"install a driver from {least} on, or a torch for an older CUDA",
    )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def cuda_of_torch() -> int | None:
    """The CUDA that the installed torch was built for, from what its package requires."""
    try:
        needs = importlib.metadata.requires("torch") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    text = "\n".join(needs)
    named = re.search(r"(?:cuda-toolkit(?:\[.*?\])?|nvidia-cuda-runtime)\D*==\s*(\d+)", text)
    older = re.search(r"nvidia-cuda-runtime-cu(\d+)", text)
    match = named or older
    return int(match[1]) if match else None


def kernels(environ: Mapping[str, str]) -> Iterator[Finding]:
    """A compiler and a cache: without GPU nobody misses them."""
    has_gpu = bool(list_gpus())
    yield _compiler(environ, has_gpu)
    yield _cache(cache_directory(environ), has_gpu)


def _compiler(environ: Mapping[str, str], has_gpu: bool) -> Finding:
    names = [environ.get("CC", ""), "cc", "gcc", "clang"]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    fix = "apt-get install gcc python3-dev, or the like"
    say = error if has_gpu else warning
    if found is None:
        return say("C compiler", "none: Triton needs one to start kernels on a GPU", fix)
    if not headers.exists():
        return say("C compiler", f"{found}, but {headers} is missing: Triton needs it", fix)
    return ok("C compiler", found)


def cache_directory(environ: Mapping[str, str]) -> Path:
    """Where Triton keeps what it compiled."""
    home = environ.get("TRITON_HOME") or environ.get("HOME") or str(Path.home())
    return Path(environ.get("TRITON_CACHE_DIR") or Path(home) / ".triton" / "cache")


def _cache(path: Path, has_gpu: bool) -> Finding:
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return ok("kernel cache", str(path))
    except OSError as failure:
        say = error if has_gpu else warning
        return say(
            "kernel cache",
            f"{path} cannot be written: {failure.strerror}",
            "set TRITON_CACHE_DIR to a folder that can, and keep it between starts",
        )
