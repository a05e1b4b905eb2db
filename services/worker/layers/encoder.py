"""One post-norm encoder block: attention among the tokens of a text, then two products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from octavo.services.worker.encoder_config import EncoderConfig
from octavo.services.worker.layers.placement import Placement, Placements, whole
from octavo.services.worker.pooling.ragged import RaggedBatch

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": nn.functional.gelu,
    "gelu_new": lambda x: nn.functional.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: nn.functional.gelu(x, approximate="tanh"),
    "relu": nn.functional.relu,
    "silu": nn.functional.silu,
}


class Dense(nn.Module):
    """x [T, in] -> [T, out], `parts` products of the same input side by side."""

    def __init__(self, in_features: int, out_features: int, parts: int = 1) -> None:
        super().__init__()
        shape = (parts * out_features, in_features)
        self.weight = nn.Parameter(torch.empty(shape), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(shape[0]), requires_grad=False)
        self._rows = out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight, self.bias)

    def placements(self, *names: str) -> Placements:
        """One name a part."""
        for index, name in enumerate(names):
            rows = slice(index * self._rows, (index + 1) * self._rows)
            weight, bias = self.weight[rows], self.bias[rows]
            yield f"{name}.weight", Placement(weight, tuple(weight.shape))
            yield f"{name}.bias", Placement(bias, tuple(bias.shape))


class LayerNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(size), requires_grad=False)
        self._eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self._eps)

    def placements(self, name: str) -> Placements:
        yield f"{name}.weight", whole(self.weight)
        yield f"{name}.bias", whole(self.bias)


class EncoderLayer(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        size, inner, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        self._heads = config.num_heads
        self._activation = ACTIVATIONS[config.hidden_act]
        self.qkv = Dense(size, size, parts=3)
        self.out, self.out_norm = Dense(size, size), LayerNorm(size, eps)
        self.up, self.down, self.down_norm = (
            Dense(size, inner),
            Dense(inner, size),
            LayerNorm(size, eps),
        )

    def forward(self, hidden: torch.Tensor, batch: RaggedBatch) -> torch.Tensor:
        """[T, H] -> [T, H]."""
        q, k, v = self.qkv(hidden).unflatten(-1, (3, self._heads, -1)).unbind(1)
        hidden = self.out_norm(self.out(batch.attend(q, k, v)) + hidden)
        inner = self._activation(self.up(hidden))
        normed: torch.Tensor = self.down_norm(self.down(inner) + hidden)
        return normed

    def placements(self, prefix: str) -> Placements:
        attention = f"{prefix}attention."
        yield from self.qkv.placements(
            f"{attention}self.query", f"{attention}self.key", f"{attention}self.value"
        )
        yield from self.out.placements(f"{attention}output.dense")
        yield from self.out_norm.placements(f"{attention}output.LayerNorm")
        yield from self.up.placements(f"{prefix}intermediate.dense")
        yield from self.down.placements(f"{prefix}output.dense")
        yield from self.down_norm.placements(f"{prefix}output.LayerNorm")
