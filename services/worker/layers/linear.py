"""Tensor-parallel linear layers.

Column-parallel layers split their outputs, row-parallel ones their inputs (Megatron-LM, Shoeybi
et al., 2019): a column layer followed by a row layer needs one all-reduce.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from octavo.services.worker.layers.placement import Placement, Placements
from octavo.services.worker.layers.scheme import LinearScheme, Unquantized
from octavo.services.worker.parallel import Parallel


@dataclass(frozen=True)
class Part:
    """One of the outputs a column-parallel layer fuses: `size` rows, of which this rank holds
    `rows` from `start`."""

    size: int
    start: int
    rows: int

    @classmethod
    def even(cls, size: int, parallel: Parallel) -> Part:
        share = parallel.share(size)
        return cls(size, share.start, share.stop - share.start)

    @classmethod
    def heads(cls, count: int, head_dim: int, parallel: Parallel) -> Part:
        """Heads split over the ranks; ranks beyond their number hold copies."""
        local = max(count // parallel.size, 1)
        first = parallel.rank * count // parallel.size
        return cls(count * head_dim, first * head_dim, local * head_dim)


class ColumnParallelLinear(nn.Module):
    """x [T, in] -> [T, this rank's rows of all parts, one after the other].

    `names` are the checkpoint's: one a part, or a single one that holds all parts fused.
    """

    def __init__(
        self,
        in_features: int,
        parts: list[Part],
        names: tuple[str, ...],
        bias: bool = False,
        scheme: LinearScheme | None = None,
    ) -> None:
        super().__init__()
        self._parts = parts
        self._names = names
        self._in_features = in_features
        self._scheme = scheme or Unquantized()
        rows = sum(part.rows for part in parts)
        self._scheme.create(self, rows, in_features)
        self.bias = nn.Parameter(torch.empty(rows), requires_grad=False) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._scheme.apply(self, x, self.bias)

    def gated(self, x: torch.Tensor) -> torch.Tensor:
        """silu(first half of the outputs) * second half."""
        return self._scheme.apply_gated(self, x, self.bias)

    def placements(self, prefix: str) -> Placements:
        fused = len(self._names) == 1
        total = sum(part.size for part in self._parts)
        local = base = 0
        for index, part in enumerate(self._parts):
            name = prefix + self._names[0 if fused else index]
            size, start = (total, base + part.start) if fused else (part.size, part.start)
            for kind, parameter in self.named_parameters():
                target = parameter[local : local + part.rows]
                shape = (size, *parameter.shape[1:])
                yield f"{name}.{kind}", Placement(target, shape, 0, start)
            local += part.rows
            base += part.size


class RowParallelLinear(nn.Module):
    """x [T, this rank's share of in] -> [T, out], summed over the ranks."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        name: str,
        parallel: Parallel,
        bias: bool = False,
        scheme: LinearScheme | None = None,
    ) -> None:
        super().__init__()
        self._name = name
        self._parallel = parallel
        self._shape = (out_features, in_features)
        self._share = parallel.share(in_features)
        self._scheme = scheme or Unquantized()
        self._scheme.create(self, out_features, self._share.stop - self._share.start)
        self.bias = nn.Parameter(torch.empty(out_features), requires_grad=False) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = self.bias if self._parallel.rank == 0 else None  # once in the sum
        return self._parallel.all_reduce(self._scheme.apply(self, x, bias))

    def placements(self, prefix: str) -> Placements:
        name = prefix + self._name
        weight = self.get_parameter("weight")
        yield f"{name}.weight", Placement(weight, self._shape, 1, self._share.start)
        if self.bias is not None:
            yield f"{name}.bias", Placement(self.bias, tuple(self.bias.shape))
