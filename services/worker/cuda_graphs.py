"""Steps as CUDA graphs: one for each of a few batch shapes, captured largest first.

A graph holds the forward pass over the static buffers of `StepInputs`; attention reads lengths,
block tables and its work on the device, so one graph serves any batch that fits its shape. Logits
and sampling stay outside, as do mixed batches so large that the host is never behind, and those
of which all hidden states are wanted.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable

import torch

from octavo.services.worker.batch_shape import BatchShape
from octavo.services.worker.causal_lm import CausalLM
from octavo.services.worker.inputs import StepInputs
from octavo.services.worker.slots import Rows

Progress = Callable[[str, int, int], None]
PREFIX_ROWS = (8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Decode batches whose rows share their beginnings are rarer: fewer sizes."""
MAX_MIXED_TOKENS = 2048


class StepGraphs:
    """`prefixes`: decode batches whose rows share their beginnings get graphs too."""

    def __init__(
        self,
        model: CausalLM,
        inputs: StepInputs,
        max_rows: int,
        max_tokens: int,
        prefixes: bool,
    ) -> None:
        self._model = model
        self._inputs = inputs
        shared = [*(size for size in PREFIX_ROWS if size < max_rows), max_rows] if prefixes else []
        self._mixed = [BatchShape.mixed_of(max_rows, size) for size in mixed_sizes(max_tokens)]
        self._decodes = [BatchShape.decode_of(size) for size in bucket_sizes(max_rows)]
        self._shared = [BatchShape.decode_of(size, prefixes=True) for size in shared]
        self._graphs: dict[BatchShape, torch.cuda.CUDAGraph] = {}
        self._hidden: torch.Tensor | None = None

    def shape_for(self, rows: Rows, prefixes: bool) -> BatchShape | None:
        """The smallest captured shape that holds the rows, if there is one."""
        if rows.whole:
            return None
        if prefixes:
            return _fit(self._shared, rows)
        return _fit(self._decodes if rows.decode_only else self._mixed, rows)

    def capture(self, progress: Progress) -> None:
        """Capture every shape; all graphs share one memory pool."""
        shapes = [*self._mixed, *self._decodes, *self._shared]
        shapes.sort(key=lambda shape: -shape.tokens)
        self._inputs.clear()
        pool = torch.cuda.graph_pool_handle()
        for done, shape in enumerate(shapes):
            progress("graphs", done, len(shapes))
            self._inputs.plan(self._inputs.batch(shape))
            self._forward(shape)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                self._forward(shape)
            self._graphs[shape] = graph
        progress("graphs", len(shapes), len(shapes))

    def replay(self, shape: BatchShape) -> torch.Tensor:
        """Run the staged rows; hidden [shape.outputs, H], valid until the next step."""
        self._graphs[shape].replay()
        if self._hidden is None:
            raise RuntimeError("no graph was captured")
        return self._hidden[: shape.outputs]

    def _forward(self, shape: BatchShape) -> None:
        batch = self._inputs.batch(shape)
        hidden = self._model.forward(self._inputs.input_ids[: shape.tokens], batch)
        if self._hidden is None:
            self._hidden = torch.empty_like(hidden)
        self._hidden[: shape.outputs].copy_(hidden)


def _fit(shapes: list[BatchShape], rows: Rows) -> BatchShape | None:
    index = bisect.bisect_left(shapes, rows.total_tokens, key=lambda shape: shape.tokens)
    return shapes[index] if index < len(shapes) else None


def bucket_sizes(max_rows: int) -> list[int]:
    """1, 2, 4, 8, then steps of 8 to 128, of 16 to 256, of 32 above; `max_rows` is the last."""
    sizes = [1, 2, 4, *range(8, 128, 8), *range(128, 256, 16), *range(256, max_rows + 1, 32)]
    return [*(size for size in sizes if size < max_rows), max_rows]


def mixed_sizes(max_tokens: int) -> list[int]:
    """16, 32, 64, then steps of 64 to 512, and of 128, a tile of cuBLAS, above."""
    sizes = [16, 32, *range(64, 512, 64), *range(512, MAX_MIXED_TOKENS + 1, 128)]
    return [size for size in sizes if size <= max_tokens]
