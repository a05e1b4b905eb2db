"""Train the demo model: `python -m octavo.services.demo.train --out DIR --minutes 5 --seed 0`.

Corpus, tokenizer, network and a rehearsal of the exam in one run, bounded by time. The folder then
holds a Hugging Face checkpoint; train.log.json beside it holds the curve and the accuracies.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from octavo.services.demo.corpus import documents
from octavo.services.demo.dialogue import END_OF_TEXT, IM_END, Question
from octavo.services.demo.grading import Score
from octavo.services.demo.network import Network, Shape, compute_dtype, load_network, save_network
from octavo.services.demo.packing import IGNORED, Rows, pack
from octavo.services.demo.questions import questions
from octavo.services.demo.rehearsal import rehearse
from octavo.services.demo.tokenizer import SPECIALS, save_tokenizer, train_tokenizer

TOKENIZER_DOCUMENTS = 40_000
REPORT_SECONDS = 5.0
Loss = Callable[[Network, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run does: limits of time and steps, sizes, and the optimizer's settings."""

    minutes: float = 5.0
    steps: int = 1_000_000
    seed: int = 0
    documents: int = 400_000
    rows: int = 64
    row_tokens: int = 1024
    peak_rate: float = 2e-3
    warmup_steps: int = 200
    weight_decay: float = 0.1
    exam_seconds: float = 45.0
    exam_questions: int = 10_000
    exam_tokens: int = 160
    compiled: bool = False
    shape: Shape = field(default_factory=Shape)


class Run:
    """The clock and the log of one run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.start = time.monotonic()
        self.trained_from = self.start
        self.log: list[dict[str, object]] = []

    def seconds(self) -> float:
        return time.monotonic() - self.start

    def fraction(self, step: int) -> float:
        """Share of the training that is over, by time or by steps, whichever is further."""
        end = self.start + 60 * self.plan.minutes
        spent = (time.monotonic() - self.trained_from) / max(end - self.trained_from, 1e-9)
        return min(1.0, max(spent, step / self.plan.steps))

    def note(self, **fields: object) -> None:
        """One line on standard output, one entry in the log."""
        entry = {"seconds": round(self.seconds(), 1), **fields}
        self.log.append(entry)
        print("  ".join(f"{key}={value}" for key, value in entry.items()), flush=True)


def train(plan: Plan, out: Path, device: torch.device) -> Score:
    """Do all of it and return the saved model's score."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    run = Run(plan)
    tokenizer, rows = prepare(plan, run)
    save_tokenizer(tokenizer, out, plan.shape.max_position_embeddings)
    asked = questions(plan.seed)[: plan.exam_questions]
    network = Network(plan.shape).to(device)
    fit(network, rows.to(device), run, lambda: _rehearse_copy(network, tokenizer, asked, run))
    end, padding = SPECIALS.index(IM_END), SPECIALS.index(END_OF_TEXT)
    save_network(network, out, eos=[end, padding], pad=padding)
    score = _final_exam(load_network(plan.shape, out, device), tokenizer, asked, run)
    (out / "train.log.json").write_text(json.dumps(run.log, indent=1) + "\n")
    return score


def prepare(plan: Plan, run: Run) -> tuple[Tokenizer, Rows]:
    """The tokenizer and the packed corpus."""
    first = islice(documents(plan.documents, plan.seed), TOKENIZER_DOCUMENTS)
    texts = (segment.text for document in first for segment in document)
    tokenizer = train_tokenizer(texts, plan.shape.vocab_size)
    run.note(tokenizer=tokenizer.get_vocab_size())
    rows = pack(tokenizer, documents(plan.documents, plan.seed), plan.row_tokens)
    trained = rows.trained.float().mean().item()
    run.note(corpus_tokens=rows.ids.numel(), rows=len(rows.ids), trained_share=round(trained, 3))
    return tokenizer, rows


def fit(network: Network, rows: Rows, run: Run, exam: Callable[[], None]) -> None:
    """Train until the time or the steps are over; `exam` is called every so often."""
    plan = run.plan
    run.trained_from = time.monotonic()
    optimizer = _optimizer(network, plan)
    loss_of: Loss = torch.compile(_loss) if plan.compiled else _loss
    examined = reported = run.seconds()
    tokens = 0
    for step, batch in enumerate(_batches(rows, plan)):
        fraction = run.fraction(step)
        if fraction >= 1.0:
            break
        loss = _step(network, optimizer, loss_of, batch, _rate(plan, step, fraction))
        tokens += batch[0].numel()
        if (since := run.seconds() - reported) >= REPORT_SECONDS:
            value = round(loss.item(), 5)
            run.note(step=step, loss=value, tokens_a_second=round(tokens / since))
            reported, tokens = run.seconds(), 0
        if run.seconds() - examined >= plan.exam_seconds and fraction < 0.95:
            exam()
            examined = reported = run.seconds()
            tokens = 0
    run.note(steps=step, loss=round(loss.item(), 5))


def _batches(rows: Rows, plan: Plan) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end: every row once an epoch, in an order drawn on the device."""
    count, device = len(rows.ids), rows.ids.device
    size = min(plan.rows, count)
    generator = torch.Generator(device).manual_seed(plan.seed)
    while True:
        order = torch.randperm(count, generator=generator, device=device)
        for start in range(0, count - size + 1, size):
            yield rows.batch(order[start : start + size])


def _loss(network: Network, ids: Tensor, targets: Tensor) -> Tensor:
    logits = network.logits(network(ids, compute_dtype(ids.device))).float()
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


def _step(
    network: Network,
    optimizer: torch.optim.Optimizer,
    loss_of: Loss,
    batch: tuple[Tensor, Tensor],
    rate: float,
) -> Tensor:
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = loss_of(network, *batch)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return loss.detach()


def _rate(plan: Plan, step: int, fraction: float) -> float:
    """Linear warm-up over steps, then half a cosine over the run, to a hundredth of the peak."""
    warm = min(1.0, (step + 1) / plan.warmup_steps)
    return plan.peak_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fraction)))


def _optimizer(network: Network, plan: Plan) -> torch.optim.Optimizer:
    matrices = [p for p in network.parameters() if p.dim() >= 2]
    vectors = [p for p in network.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": plan.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=plan.peak_rate, betas=(0.9, 0.95), fused=True)


def _rehearse_copy(network: Network, tokenizer: Tokenizer, asked: list[Question], run: Run) -> None:
    """The exam with the weights rounded to bf16, as they will be served."""
    rounded = Network(network.shape).to(network.model.norm.weight.device, torch.bfloat16)
    rounded.load_state_dict(network.state_dict())
    score, _ = rehearse(rounded, tokenizer, asked, run.plan.exam_tokens)
    subjects = {name: round(share, 3) for name, share in score.by_subject().items()}
    run.note(accuracy=round(score.accuracy, 4), subjects=subjects)


def _final_exam(network: Network, tokenizer: Tokenizer, asked: list[Question], run: Run) -> Score:
    score, wrong = rehearse(network, tokenizer, asked, run.plan.exam_tokens)
    for question, answer in wrong[:60]:
        text = question.messages[-1]["content"]
        print(f"wrong: {question.subject}: {text!r} -> {answer!r}, not {question.expected!r}")
    print(score.table(), flush=True)
    run.note(final_accuracy=round(score.accuracy, 4), subjects=score.by_subject())
    return score


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the bundled demo model.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile the loss")
    for name, kind in (
        ("minutes", float),
        ("steps", int),
        ("seed", int),
        ("documents", int),
        ("rows", int),
        ("row-tokens", int),
        ("peak-rate", float),
        ("exam-seconds", float),
        ("exam-questions", int),
    ):
        default = getattr(Plan(), name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"default {default}")
    return parser.parse_args()


def main() -> int:
    options = vars(_arguments())
    out, device = options.pop("out"), torch.device(options.pop("device"))
    plan = Plan(compiled=options.pop("compile"), **options)
    train(plan, out, device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
