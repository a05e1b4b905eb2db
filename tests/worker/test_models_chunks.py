"""Every family's logits in chunks of 7, through a paged cache with a shuffled block table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_checkpoints import VARIANTS, VOCAB, make_checkpoint

from octavo.kernels.batch import ForwardBatch
from octavo.kernels.reference import make_work_lists
from octavo.services.worker.causal_lm import CausalLM
from octavo.services.worker.model_config import ModelConfig
from octavo.services.worker.parallel import Parallel
from octavo.services.worker.weights import load_model

LENGTH, CHUNK, BLOCK, NUM_BLOCKS, SLOT = 40, 7, 4, 16, 2


def shuffled_tables() -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.stack(
        [torch.randperm(NUM_BLOCKS, generator=generator) for _ in range(SLOT + 1)]
    ).int()


def one_chunk(tables: torch.Tensor, first: int, last: int) -> ForwardBatch:
    positions = torch.arange(first, last)
    return ForwardBatch(
        positions=positions.int(),
        slot_mapping=tables[SLOT, positions // BLOCK].long() * BLOCK + positions % BLOCK,
        block_tables=tables,
        slots=torch.tensor([SLOT], dtype=torch.int32),
        query_start=torch.tensor([0, last - first], dtype=torch.int32),
        seq_lens=torch.tensor([last], dtype=torch.int32),
        work=make_work_lists(0, 0, 1, 1, 1, torch.float32, torch.device("cpu")),
    )


def logits_in_chunks(model: CausalLM, ids: torch.Tensor) -> torch.Tensor:
    """The cache starts as NaN: whatever is read unwritten shows."""
    shape = (NUM_BLOCKS, model.num_kv_heads, BLOCK, model.head_dim)
    model.bind_kv_cache(
        [(torch.full(shape, torch.nan), torch.full(shape, torch.nan)) for _ in range(2)]
    )
    tables, parts = shuffled_tables(), []
    for first in range(0, LENGTH, CHUNK):
        last = min(first + CHUNK, LENGTH)
        hidden = model.forward(ids[first:last].int(), one_chunk(tables, first, last))
        parts.append(model.logits(hidden))
    return torch.cat(parts)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_logits_in_chunks_equal_transformers(name: str, tmp_path: Path) -> None:
    reference = make_checkpoint(name, tmp_path)
    ids = torch.randint(0, VOCAB, (LENGTH,), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        model = load_model(
            ModelConfig.load(tmp_path), tmp_path, Parallel.single(), torch.device("cpu"),
            torch.float32, "auto", 0, 64, lambda *_: None,
        )  # fmt: skip
        difference = logits_in_chunks(model, ids) - reference(ids[None]).logits[0]
    assert difference.abs().max() < 1e-4
