"""transformers' own generation on the lengths of the offline benchmark: the naive way to serve.

    python bench/transformers_baseline.py [--requests 128] [--batch-sizes 32 64 128] [--json FILE]
    python bench/transformers_baseline.py --tiny                      (on a CPU, to try it)

Random weights in Llama-3.1-8B's shape, bfloat16. `generate` takes the requests in batches, padded
on the left, each batch as long as its longest output; end-of-sequence tokens end nothing. Only
the tokens that a request asked for count, over the wall time. The best batch size is the record.
Then the same requests, each to its own length, through the continuous batching that transformers
has since version 5.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness import Request, bounds, draw_requests, model_folder
from bench.results import add_json_option, record, save

TEMPERATURE = 0.6
PAD_ID = 0


def batches(requests: Sequence[Request], size: int) -> Iterator[Sequence[Request]]:
    for start in range(0, len(requests), size):
        yield requests[start : start + size]


def padded(requests: Sequence[Request]) -> tuple[list[list[int]], list[list[int]]]:
    """Ids and attention mask, padded on the left to the longest prompt."""
    longest = max(len(each.prompt) for each in requests)
    missing = [longest - len(each.prompt) for each in requests]
    ids = [[PAD_ID] * pad + each.prompt for pad, each in zip(missing, requests, strict=True)]
    mask = [[0] * pad + [1] * len(each.prompt) for pad, each in zip(missing, requests, strict=True)]
    return ids, mask


def useful_rate(requests: Sequence[Request], seconds: float) -> float:
    """Tokens that were asked for, a second."""
    return sum(each.output_length for each in requests) / seconds


def transformers() -> Any:
    """The package, whose types say too little for a strict checker."""
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise SystemExit(f"this benchmark needs transformers 5: {error}") from None


def load_model(folder: str, device: str) -> Any:
    import torch

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    torch.manual_seed(0)
    with torch.device(device):
        config = transformers().AutoConfig.from_pretrained(folder)
        model = transformers().AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = PAD_ID
    return model.eval()


def generate_batch(model: Any, requests: Sequence[Request]) -> None:
    """One static batch, to its longest output."""
    import torch

    ids, mask = (torch.tensor(rows, device=model.device) for rows in padded(requests))
    longest = max(each.output_length for each in requests)
    with torch.inference_mode():
        out = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=longest,
            min_new_tokens=longest,
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=0,
        )
    if out.shape[1] != ids.shape[1] + longest:
        raise SystemExit("generate stopped early: no figures")


def static_rate(model: Any, requests: Sequence[Request], size: int) -> float | None:
    """Useful tokens a second in batches of `size`; None where memory is short."""
    import torch

    try:
        generate_batch(model, [Request(requests[0].prompt, 4)])
        began = time.perf_counter()
        for batch in batches(requests, size):
            generate_batch(model, batch)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        print(f"batches of {size}: out of memory", flush=True)
        return None
    rate = useful_rate(requests, time.perf_counter() - began)
    print(f"batches of {size}: {rate:,.1f} tok/s", flush=True)
    return rate


def continuous_rate(model: Any, requests: Sequence[Request]) -> float | None:
    """Useful tokens a second with continuous batching; None where this version cannot."""
    if not hasattr(model, "continuous_batching_context_manager"):
        print("this version of transformers has no continuous batching: that part is left out")
        return None
    longest = max(each.output_length for each in requests)
    config = transformers().GenerationConfig(
        max_new_tokens=longest,
        do_sample=True,
        temperature=TEMPERATURE,
        top_k=0,
        eos_token_id=-1,
    )
    with model.continuous_batching_context_manager(generation_config=config) as manager:
        began = time.perf_counter()
        for each in requests:
            manager.add_request(each.prompt, max_new_tokens=each.output_length)
        tokens = _collect(manager, len(requests))
        seconds = time.perf_counter() - began
    if tokens != sum(each.output_length for each in requests):
        raise SystemExit(f"continuous batching gave {tokens} tokens, too few: no figures")
    return useful_rate(requests, seconds)


def _collect(manager: Any, count: int) -> int:
    """Tokens of all results; those that ended by an error have too few."""
    tokens = 0
    while count:
        if not manager.is_running():
            raise SystemExit("transformers' continuous batching stopped")
        result = manager.get_result(timeout=1)
        if result is not None and result.is_finished():
            tokens += len(result.generated_tokens)
            count -= 1
    return tokens


def measure(model: Any, args: argparse.Namespace) -> None:
    """The records are saved after each part: the second may stop the whole."""
    top_id = min(10_000, model.config.vocab_size - 1)
    requests = draw_requests(0, args.requests, args.lengths, top_id)
    rates = {size: static_rate(model, requests, size) for size in args.batch_sizes}
    done = [rate for rate in rates.values() if rate]
    records = [record("offline_uniform", 15, "tok/s", [max(done)], "transformers")] if done else []
    detail = {"static": rates, "requests": args.requests, "model": args.model} | versions()
    save(args.json, records, detail)
    if not args.no_continuous and (rate := continuous_rate(model, requests)):
        name = "offline_uniform_continuous"
        records.append(record(name, None, "tok/s", [rate], "transformers"))
        save(args.json, records, detail)


def versions() -> dict[str, Any]:
    import torch

    return {"versions": {"torch": torch.__version__, "transformers": transformers().__version__}}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="llama-3.1-8b", help="a shape or a folder")
    parser.add_argument("--requests", type=int, default=512, help="fewer: a shorter run")
    parser.add_argument("--lengths", type=bounds, default=(100, 1024), metavar="LOW:HIGH")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--no-continuous", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, few short requests")
    add_json_option(parser)
    args = parser.parse_args()
    if args.tiny:
        args.model, args.requests, args.lengths, args.batch_sizes = "tiny", 8, (4, 16), [2, 4]
    return args


def main() -> None:
    args = parse()
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with model_folder(args.model) as folder:
        measure(load_model(folder, device), args)


if __name__ == "__main__":
    main()
