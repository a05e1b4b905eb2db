"""One rank of a tensor-parallel harness: `python parallel_rank.py RANK SIZE FILE CHECKPOINT...`.

Every rank runs the same scheduler on the same prompts, so all make the same plans. Rank 0 prints,
a line a checkpoint, the greedy and seeded ids and a checksum of the logits.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from engine_harness import Harness

from octavo.services.worker.parallel import Parallel
from octavo.shared.sampling import SamplingParams

PROMPTS = [list(range(3, 3 + length)) for length in (39, 23, 5)]
PARAMS = [
    SamplingParams(temperature=0.0, max_tokens=64),
    SamplingParams(temperature=0.0, max_tokens=64),
    SamplingParams(temperature=0.9, top_p=0.9, seed=5, max_tokens=64),
]


def outcome(path: Path, parallel: Parallel, device: str = "cpu") -> dict[str, object]:
    # Prompts in chunks, the first of which sample nothing.
    harness = Harness(path, max_model_len=128, budget=16, parallel=parallel, device=device)
    answers = harness.generate(PROMPTS, PARAMS)
    logits = harness.forward(PROMPTS[1])
    return {"ids": [answer.token_ids for answer in answers], "logits": logits[-1].tolist()}


def main() -> None:
    rank, size, rendezvous, *paths = sys.argv[1:]
    parallel = Parallel.create(int(rank), int(size), torch.device("cpu"), Path(rendezvous))
    for path in paths:
        result = outcome(Path(path), parallel)
        if parallel.rank == 0:
            print(json.dumps(result), flush=True)
    parallel.destroy()


if __name__ == "__main__":
    main()
