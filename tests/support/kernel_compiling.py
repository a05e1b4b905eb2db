"""Compile what the wrappers of our kernels launch, for a GPU that is not there.

    python kernel_compiling.py ARCH SMS SHARED_BYTES        (not in Triton's interpreter)

Each launch on CPU tensors is compiled for the architecture (80: sm_80) instead of run. Prints a
JSON list of {"kernel", "constants", "warps", "stages", "shared", "itemsize" of keys, if any}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
import triton
from kernel_batches import Case, build
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import ASTSource
from triton.runtime.jit import JITFunction

from octavo.kernels import (
    activation,
    bitmask,
    launch,
    penalties,
    prefix_attention,
    rms_norm,
    rotary,
)
from octavo.kernels.batch import PrefixWork
from octavo.kernels.paged_attention import paged_attention
from octavo.kernels.sampling import sample

TYPES = {
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.uint8: "u8",
    torch.bool: "i1",
}
launches: list[dict[str, Any]] = []


def main() -> None:
    arch, sms, shared = map(int, sys.argv[1:])
    launch.NO_DEVICE = launch.Limits(sms, shared, from_shared=arch in (90, 100))
    JITFunction.run = lambda kernel, *args, grid, warmup, **named: _compile(
        kernel, args, named, arch
    )
    for dtype, dims in ((torch.bfloat16, (64, 128, 256)), (torch.float32, (256,))):
        for dim in dims:
            _attention(dim, dtype)
    _others()
    print(json.dumps(launches))


def _compile(kernel: Any, args: tuple[Any, ...], named: dict[str, Any], arch: int) -> None:
    names = kernel.arg_names
    values = dict(zip(names, args, strict=False)) | named
    options = {name: value for name, value in named.items() if name not in names}
    signature, constants, hints = {}, {}, {}
    for at, parameter in enumerate(kernel.params):
        value = values[parameter.name]
        signature[parameter.name] = "constexpr" if parameter.is_constexpr else _type(value)
        if parameter.is_constexpr:
            constants[(at,)] = value
        elif not parameter.do_not_specialize and _by_16(value):
            hints[(at,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, hints)
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    launches.append(
        {
            "kernel": kernel.__name__,
            "constants": {names[at]: value for (at,), value in constants.items()},
            "warps": options["num_warps"],
            "stages": options.get("num_stages", 3),
            "shared": compiled.metadata.shared,
            "itemsize": values["k_cache_ptr"].element_size() if "k_cache_ptr" in values else 0,
        }
    )


def _type(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_type(each) for each in value)
    if isinstance(value, torch.Tensor):
        return "*" + TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def _by_16(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0)


def _attention(dim: int, dtype: torch.dtype) -> None:
    """Decode attention by few and by many programs, with and without prefixes, and prefill."""
    common: dict[str, Any] = {"heads": 8, "kv_heads": 2, "dim": dim, "dtype": dtype}
    for block_size in (16, 64):
        for rows in (1, 400):
            _attend(Case([1] * rows, [64] * rows, block_size=block_size, **common))
    _attend(Case([1, 1], [64, 64], heads=64, kv_heads=2, dim=dim, dtype=dtype, block_size=64))
    _attend(Case([9], [9], block_size=64, **common))
    inputs = build(Case([1, 1], [64, 64], block_size=64, **common))
    ints = torch.zeros(2, dtype=torch.int32)
    work = PrefixWork(torch.zeros(1, 8, dtype=torch.int32), ints, ints, ints, ints, 1)
    batch = type(inputs.batch)(**(vars(inputs.batch) | {"prefixes": work}))
    prefix_attention.prefix_attention(inputs.q, inputs.k_cache, inputs.v_cache, batch, 1.0, 0.0)


def _attend(case: Case) -> None:
    inputs = build(case)
    paged_attention(inputs.q, inputs.k_cache, inputs.v_cache, inputs.batch, 1.0)


def _others() -> None:
    """The kernels that know no GPU, at the shapes where they need the most."""
    wide = torch.zeros(2, rms_norm.MAX_HIDDEN, dtype=torch.bfloat16)
    rms_norm.rms_norm(wide, wide[0], 1e-6)
    rms_norm.add_rms_norm(wide, wide.clone(), wide[0], 1e-6)
    activation.silu_and_mul(wide)
    heads, column = torch.zeros(2, 48, 256, dtype=torch.bfloat16), torch.zeros(2)
    cache = torch.zeros(2, 8, 64, 256, dtype=torch.bfloat16)
    ids, norm = torch.zeros(2, dtype=torch.int32), heads[0, 0]
    rotary.rotary_and_kv_write(
        heads[:, :32], heads[:, 32:40], heads[:, 40:], ids, torch.zeros(4, 256), ids.long(),
        cache, cache, norm, norm,
    )  # fmt: skip
    logits, counts = torch.zeros(2, 128256), torch.zeros(2, 128256, dtype=torch.int32)
    bitmask.apply_bitmask(logits, ids.long(), torch.zeros(2, 4008, dtype=torch.int32))
    penalties.apply_penalties(logits, ids, counts, column, column, column)
    for random, filtered in ((False, False), (True, False), (True, True)):
        sample(
            logits, column, ids, column, column, ids.long(), ids,
            random=random, filtered=filtered,
        )  # fmt: skip


if __name__ == "__main__":
    main()
