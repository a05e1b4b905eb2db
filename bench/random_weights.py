"""Fill a model's folder with random bfloat16 weights, so that a start has files to read.

python bench/shapes.py llama-3.1-8b DIR && python bench/random_weights.py DIR
python bench/startup.py --model DIR
"""

from __future__ import annotations

import argparse
from math import prod
from pathlib import Path

import torch
from safetensors.torch import save_file

from octavo.services.worker.model_config import ModelConfig
from octavo.services.worker.parallel import Parallel
from octavo.services.worker.weights import build_model

SHARD_BYTES = 4 << 30
STD = 0.02


def write_weights(folder: Path) -> None:
    """Random bfloat16 tensors in shards, under the names that the model wants."""
    config = ModelConfig.load(folder)
    model = build_model(config, Parallel.single(), torch.device("meta"), torch.bfloat16, 1)
    shapes = {name: placement.shape for name, placement in model.placements()}
    noise = torch.randn(1 << 24).mul_(STD).to(torch.bfloat16)
    shard: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        size = prod(shape)
        shard[name] = noise.repeat(-(-size // len(noise)))[:size].reshape(shape).clone()
        if sum(tensor.nbytes for tensor in shard.values()) > SHARD_BYTES:
            save_shard(shard, folder)
    save_shard(shard, folder)


def save_shard(shard: dict[str, torch.Tensor], folder: Path) -> None:
    if shard:
        save_file(shard, folder / f"part-{len(list(folder.glob('*.safetensors')))}.safetensors")
        shard.clear()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    write_weights(parser.parse_args().folder)
