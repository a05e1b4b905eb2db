"""What launches share: the device's limits, and programmatic dependent launch (PDL).

Under PDL (Hopper and newer) a kernel starts while the one before it in the stream still runs. It
may touch what no kernel of the step writes (weights); before anything else it must
`wait_for_inputs`. Every kernel of a chain waits, so what was finished for one of them is finished
for all behind it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
from triton.runtime import driver


@dataclass(frozen=True)
class Limits:
    """What a device has for the programs of a kernel."""

    sms: int
    """Multiprocessors."""
    shared: int
    """Bytes of shared memory that one program may have; a multiprocessor has 1 KiB more."""
    from_shared: bool
    """Whether Triton multiplies 64 rows and more straight from shared memory (compute capability
    9 and 10)."""


NO_DEVICE = Limits(sms=132, shared=227 << 10, from_shared=True)
"""For the interpreter, which needs none: those of an H200."""


@functools.cache
def limits(device: torch.device) -> Limits:
    if device.type != "cuda":
        return NO_DEVICE
    properties = torch.cuda.get_device_properties(device)
    index = torch.cuda.current_device() if device.index is None else device.index
    shared = driver.active.utils.get_device_properties(index)["max_shared_mem"]
    return Limits(properties.multi_processor_count, shared, properties.major in (9, 10))


def num_sms(device: torch.device) -> int:
    return limits(device).sms


@functools.cache
def has_pdl(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


def pdl_options(tensor: torch.Tensor) -> dict[str, bool]:
    """Keyword arguments of a launch whose kernel takes `PDL`."""
    if has_pdl(tensor.device):
        return {"PDL": True, "launch_pdl": True}
    return {"PDL": False}


def zeros(device: torch.device, count: int) -> torch.Tensor:
    """At least `count` int32 zeros for programs to count arrivals in; they leave them zero."""
    return _zeros(device, max(triton.next_power_of_2(count), 1 << 14))


@functools.cache
def _zeros(device: torch.device, count: int) -> torch.Tensor:
    return torch.zeros(count, dtype=torch.int32, device=device)


@triton.jit
def let_next_start(PDL: tl.constexpr) -> None:
    """The next kernel may start once every program has come here."""
    if PDL:
        gdc_launch_dependents()


@triton.jit
def wait_for_inputs(PDL: tl.constexpr) -> None:
    """What the kernels before have written may be read from here on, and theirs overwritten."""
    if PDL:
        gdc_wait()
