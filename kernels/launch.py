"""What launches share: the device's limits, and programmatic dependent launch (PDL).

Under PDL (Hopper and newer) a kernel starts while the one before it in the stream still runs. It
may touch what no kernel of the step writes (weights); before anything else it must
`wait_for_inputs`. Every kernel of a chain waits, so what was finished for one of them is finished
for all behind it.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@functools.cache
def num_sms(device: torch.device) -> int:
    """Multiprocessors; 132 for a device without any (the interpreter)."""
    if device.type != "cuda":
        return 132
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


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
