"""What constrained rows cost a decode batch: milliseconds a step, with and without them.

    python bench/structured.py [--model llama-3.1-8b] [--batch 256] [--constrained 0 1 32 256]
        [--json FILE]

Each constrained row writes an array of objects by a JSON schema that it cannot finish. Batches
with and without constrained rows take turns, so that what drifts hits both; `slower` is the
change of the step for everybody, in percent.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness import Bench, add_engine_option, bounds, running
from bench.results import Record, add_json_option, record, save
from octavo.llm import StructuredOutputsParams

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
ENDLESS = StructuredOutputsParams(json={"type": "array", "items": PERSON, "minItems": 1000})


def steps(bench: Bench, args: argparse.Namespace) -> dict[int, list[float]]:
    """Milliseconds of a step by how many rows are constrained, one for each repetition."""
    prompt, output = args.decode
    found: dict[int, list[float]] = {count: [] for count in args.constrained}
    for count in args.constrained:  # compiles what has to be compiled
        bench.decode_step(args.batch, prompt, output, [ENDLESS] * count)
    for _ in range(args.repetitions):
        for count, times in found.items():
            times.append(bench.decode_step(args.batch, prompt, output, [ENDLESS] * count))
    return found


def records(found: dict[int, list[float]]) -> list[Record]:
    free = found.get(0, [])
    made = []
    for count, times in found.items():
        made.append(record(f"decode_step_{count}_constrained", None, "ms", times))
        if count and free:
            slower = [100 * (one / other - 1) for one, other in zip(times, free, strict=True)]
            made.append(record(f"slower_{count}_constrained", None, "%", slower))
            print(f"{count} constrained: {statistics.median(slower):+.2f} %")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="llama-3.1-8b")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--constrained", type=int, nargs="+", default=[0, 1, 32, 256])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--decode", type=bounds, default=(512, 192), metavar="PROMPT:OUTPUT")
    add_engine_option(parser)
    add_json_option(parser)
    args = parser.parse_args()
    with running(args.model, {"max_model_len": 4096} | dict(args.engine)) as bench:
        found = records(steps(bench, args))
    save(args.json, found, {"model": args.model, "batch": args.batch})


if __name__ == "__main__":
    main()
