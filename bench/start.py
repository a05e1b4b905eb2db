"""Time `octavo serve` from its start to the first token, with a checkpoint in the page cache.

    python bench/shapes.py llama-3.1-8b DIR && python bench/start.py DIR --runs 3 [serve flags]

Random weights are written to DIR first where it has none. Each run prints seconds to ready and to
the first token; the server's own lines say what they were spent on.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import time
from math import prod
from pathlib import Path
from urllib.parse import urlsplit

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


def warm_page_cache(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 24):
                pass


def run(folder: Path, flags: list[str]) -> tuple[float, float]:
    """Seconds to the ready line, and to the first token."""
    begun = time.monotonic()
    command = [sys.executable, "-P", "-m", "octavo.services.launch", "serve", str(folder)]
    with subprocess.Popen([*command, "--port", "0", *flags], stdout=subprocess.PIPE) as server:
        try:
            line = server.stdout.readline().decode() if server.stdout else ""
            ready = time.monotonic() - begun
            print(line.strip(), flush=True)
            first_token(line.split()[4])
            return ready, time.monotonic() - begun
        finally:
            server.terminate()


def first_token(url: str) -> None:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    body = {"model": "m", "prompt": [5, 6, 7], "max_tokens": 1}
    connection.request(
        "POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(answer.read().decode())
    answer.read()
    connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    args, flags = parser.parse_known_args()
    if not list(args.folder.glob("*.safetensors")):
        write_weights(args.folder)
    warm_page_cache(args.folder)
    for _ in range(args.runs):
        ready, first = run(args.folder, ["--served-model-name", "m", *flags])
        print(f"ready {ready:.1f} s, first token {first:.1f} s", flush=True)


if __name__ == "__main__":
    main()
