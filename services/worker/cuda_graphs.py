"""Decode steps as CUDA graphs: one graph a batch-size bucket, captured largest first.

A graph holds the forward pass over the static buffers of `StepInputs`; attention reads lengths and
block tables on the device, so one graph serves any of them. Logits and sampling stay outside.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable

import torch

from octavo.services.worker.causal_lm import CausalLM
from octavo.services.worker.inputs import StepInputs

Progress = Callable[[str, int, int], None]


class DecodeGraphs:
    def __init__(self, model: CausalLM, inputs: StepInputs, max_rows: int) -> None:
        self._model = model
        self._inputs = inputs
        self.sizes = bucket_sizes(max_rows)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._hidden: torch.Tensor | None = None

    def bucket(self, num_rows: int) -> int:
        """The smallest captured size that holds the rows."""
        return self.sizes[bisect.bisect_left(self.sizes, num_rows)]

    def capture(self, progress: Progress) -> None:
        """Capture every bucket; all graphs share one memory pool."""
        pool = torch.cuda.graph_pool_handle()
        for done, size in enumerate(reversed(self.sizes)):
            progress("graphs", done, len(self.sizes))
            self._inputs.plan_decode(size)
            self._forward(size)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                self._forward(size)
            self._graphs[size] = graph
        progress("graphs", len(self.sizes), len(self.sizes))

    def replay(self, size: int) -> torch.Tensor:
        """Run the staged rows, padded to `size`; hidden [size, H], valid until the next step."""
        self._graphs[size].replay()
        if self._hidden is None:
            raise RuntimeError("no graph was captured")
        return self._hidden[:size]

    def _forward(self, size: int) -> None:
        batch = self._inputs.decode_batch(size)
        hidden = self._model.forward(self._inputs.input_ids[:size], batch)
        if self._hidden is None:
            self._hidden = torch.empty_like(hidden)
        self._hidden[:size].copy_(hidden)


def bucket_sizes(max_rows: int) -> list[int]:
    """1, 2, 4, 8, then steps of 8 to 128, of 16 to 256, of 32 above; `max_rows` is the last."""
    sizes = [1, 2, 4, *range(8, 128, 8), *range(128, 256, 16), *range(256, max_rows + 1, 32)]
    return [*(size for size in sizes if size < max_rows), max_rows]
