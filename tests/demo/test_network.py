from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from octavo.services.demo.network import Network, Shape, load_network, save_network
from octavo.services.demo.rehearsal import generate
from octavo.services.demo.tokenizer import train_tokenizer

TINY = Shape(300, 64, 2, 4, 2, 96)
CPU = torch.device("cpu")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    network = Network(TINY)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    save_network(network, tmp_path, eos=[2, 0], pad=0)
    return tmp_path


def test_same_logits_as_transformers(checkpoint: Path) -> None:
    ids = torch.randint(0, TINY.vocab_size, (2, 40), generator=torch.Generator().manual_seed(2))
    theirs = transformers.LlamaForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    ours = load_network(TINY, checkpoint, CPU).float()
    with torch.no_grad():
        got = ours.logits(ours(ids, torch.float32))
        torch.testing.assert_close(got, theirs(ids).logits, rtol=1e-4, atol=1e-3)


def test_batched_answers_equal_single_ones(checkpoint: Path) -> None:
    tokenizer = train_tokenizer(["a few words"], 300)
    network = load_network(TINY, checkpoint, CPU).float()
    prompts = [[5, 6, 7], [9] * 12, [4]]
    together = generate(network, tokenizer, prompts, 8)
    alone = [generate(network, tokenizer, [prompt], 8)[0] for prompt in prompts]
    assert together == alone
    assert all(len(answer) <= 8 for answer in together)


def test_default_shape_fits_the_package() -> None:
    parameters = sum(p.numel() for p in Network(Shape()).parameters())
    assert 2 * parameters < 11_500_000
