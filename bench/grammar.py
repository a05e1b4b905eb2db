"""Microseconds that grammars cost: masks and accepted ids a row, compiling, copying.

    python bench/grammar.py [--rows 1 64 256] [--threads 2] [--vocab 131072] [--json FILE]

Each row is somewhere else in a document that fits its grammar, as the greedy tokenizer cuts it.
The vocabulary is made on the spot: bytes, digits, blanks, and words of syllables in the forms that
a byte-level BPE learns. `--model DIR` takes a model's own tokenizer instead.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tokenizers
from llguidance import LLMatcher, LLTokenizer
from tokenizers import models, pre_tokenizers

from bench.results import Record, add_json_option, record, save
from octavo.shared.grammar.cache import matcher_of
from octavo.shared.grammar.compiling import compile_grammar, translate, vocabulary
from octavo.shared.grammar.matcher import MaskBatch, Matcher
from octavo.shared.grammar.request import request_grammar
from octavo.shared.text.pieces import byte_level
from octavo.shared.text.tokenizer import Tokenizer

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "email": {"type": "string", "format": "email"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 20}},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
ANA = {"name": "Ana Maria Lopez", "age": 34, "email": "ana@example.org", "tags": ["one", "two"]}
WIDE = {
    "type": "object",
    "properties": {f"field_{i}": PERSON for i in range(40)},
    "required": [f"field_{i}" for i in range(40)],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name", "children"],
            "additionalProperties": False,
        }
    },
}
LEAF: dict[str, Any] = {"name": "a leaf of it", "children": []}
BRANCH = {"name": "some branch", "children": [LEAF, LEAF, LEAF]}
TAG = {"begin": "<function=add>", "schema": PERSON, "end": "</function>"}
ARITHMETIC = """
root ::= sum
sum ::= product ([+-] product)*
product ::= atom ("*" atom)*
atom ::= [0-9]+ | "(" sum ")"
"""
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "json_object": ({"json_object": True}, json.dumps({"person": ANA, "tree": BRANCH}, indent=2)),
    "person": ({"json": PERSON}, json.dumps(ANA)),
    "wide": ({"json": WIDE}, json.dumps({name: ANA for name in WIDE["properties"]})),  # type: ignore[attr-defined]
    "tree": ({"json": TREE}, json.dumps({"name": "root", "children": [BRANCH, BRANCH]})),
    "regex": ({"regex": r"(\d{4}-\d{2}-\d{2} [a-z ]{1,40}\n)+"}, "2026-11-23 all is well\n" * 8),
    "choice": ({"choice": [f"answer number {i}" for i in range(200)]}, "answer number 117"),
    "grammar": ({"grammar": ARITHMETIC}, "(1+22)*333-(4444*(5+6))" * 1 + "+7*8" * 10),
    "tags": (
        {"structural_tag": {"structures": [TAG], "triggers": ["<function="]}},
        f"Let me see what I can do. <function=add>{json.dumps(ANA)}</function> That was it.",
    ),
}
"""name -> (fields of structured_outputs, a text that fits)"""


@dataclass(frozen=True)
class Case:
    name: str
    core: LLMatcher
    ids: list[int]
    compile_ms: float

    def matcher_at(self, position: int) -> Matcher:
        return matcher_of(self.core, self.ids[:position])


def prepared(name: str, known: LLTokenizer) -> Case:
    fields, text = CASES[name]
    spec = request_grammar(None, fields)
    if spec is None:
        raise SystemExit(f"{name} asks for nothing")
    began = time.perf_counter()
    core = compile_grammar(translate(spec), known)
    took = (time.perf_counter() - began) * 1e3
    case = Case(name, core, list(known.greedy_tokenize(text)), took)
    if case.matcher_at(len(case.ids)).failed:
        raise SystemExit(f"{name}: the text does not fit its grammar")
    return case


def microseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - began) / 1e3


def measure(cases: list[Case], rows: int, steps: int, batch: MaskBatch) -> dict[str, float]:
    """Medians over steps, in microseconds a row. Every row walks its text and begins again."""
    row_cases = list(itertools.islice(itertools.cycle(cases), rows))
    at = [random.Random(row).randrange(len(case.ids)) for row, case in enumerate(row_cases)]
    matchers = [case.matcher_at(position) for case, position in zip(row_cases, at, strict=True)]
    fills, accepts = [], []
    for _ in range(steps):
        pairs = list(enumerate(matchers))
        fills.append(microseconds(lambda pairs=pairs: batch.fill(pairs)))  # type: ignore[misc]
        ids = [case.ids[position] for case, position in zip(row_cases, at, strict=True)]
        sampled = list(zip(matchers, ids, strict=True))
        accepts.append(microseconds(lambda sampled=sampled: batch.accept(sampled)))  # type: ignore[misc]
        for row, case in enumerate(row_cases):
            at[row] += 1
            if at[row] == len(case.ids):
                at[row], matchers[row] = 0, case.matcher_at(0)
    if any(matcher.failed for matcher in matchers):
        raise SystemExit("a matcher failed: the figures would mean nothing")
    return {
        "fill": statistics.median(fills) / rows,
        "worst_fill": max(fills) / rows,
        "accept": statistics.median(accepts) / rows,
    }


def walked(case: Case, batch: MaskBatch) -> dict[str, float]:
    """One row through its whole text, by itself and for the first time: (mean, worst)."""
    matcher, fills, accepts = case.matcher_at(0), [], []
    for token_id in case.ids:
        fills.append(microseconds(lambda: matcher.fill_mask(batch.masks[0])))
        accepts.append(microseconds(lambda t=token_id: matcher.accept([t])))  # type: ignore[misc]
    return {
        "fill": statistics.mean(fills),
        "worst_fill": max(fills),
        "accept": statistics.mean(accepts),
        "copy": statistics.median(microseconds(lambda: case.matcher_at(0)) for _ in range(50)),
        "compile_ms": case.compile_ms,
    }


def records(cases: list[Case], args: argparse.Namespace, vocab: int) -> Iterator[Record]:
    for rows in args.rows:
        batch = MaskBatch(rows, vocab, args.threads)
        runs = [measure(cases, rows, args.steps, batch) for _ in range(args.repetitions)]
        for part in runs[0]:
            yield record(f"grammar_{part}_{rows}", None, "us/row", [run[part] for run in runs])


def synthetic_tokenizer(size: int) -> Tokenizer:
    """`size` tokens: the special one is id 0."""
    pieces = list(itertools.islice(dict.fromkeys(_pieces()), size - 1))
    backend = tokenizers.Tokenizer(models.BPE({"<|end|>": 0} | _numbered(pieces), []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.add_special_tokens(["<|end|>"])
    return Tokenizer(backend, {"type": "ByteLevel"}, {})


def _numbered(pieces: list[str]) -> dict[str, int]:
    return {piece: i for i, piece in enumerate(pieces, start=1)}


def _pieces() -> Iterator[str]:
    """Vocabulary strings in GPT-2's letters, without end for all purposes."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    to_piece = {byte_level(letter): letter for letter in letters}

    def piece(text: str) -> str:
        return "".join(to_piece[bytes([byte])] for byte in text.encode())

    yield from letters
    yield from (piece(str(number)) for number in range(1000))
    yield from (piece(" " * n) for n in range(2, 64))
    yield from (piece("\n" * n + " " * m) for n in range(1, 4) for m in range(24))
    marks = list("\"'{}[]:,.;()<>/\\=-")
    for count in (2, 3):
        yield from (
            piece("".join(each)) for each in itertools.product([*marks, " ", "\n"], repeat=count)
        )
    yield from (piece(chr(code)) for code in range(0x4E00, 0x6E00))
    ends = ("a", "e", "i", "o", "u", "an", "er", "st")
    syllables = [a + b for a in "bcdfghklmnprstvw" for b in ends]
    draw = random.Random(1)
    while True:
        word = "".join(draw.choices(syllables, k=draw.choice([1, 1, 2, 2, 2, 3, 3, 4])))
        word += draw.choice(["", "", "", "s", "ed", "ing", "ly", "tion"])
        title = word.capitalize()
        forms = [word, " " + word, title, " " + title, word.upper(), "_" + word]
        yield from map(piece, draw.sample(forms, 3))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 64, 256])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--vocab", type=int, default=1 << 17)
    parser.add_argument("--model", type=Path, help="a model directory, for its tokenizer")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=3)
    add_json_option(parser)
    args = parser.parse_args()
    tokenizer = Tokenizer.load(args.model) if args.model else synthetic_tokenizer(args.vocab)
    size = tokenizer.vocab_size
    began = time.perf_counter()
    known = vocabulary(tokenizer, size, [0])
    loading = time.perf_counter() - began
    cases = [prepared(name, known) for name in CASES]
    one = MaskBatch(1, size, 1)
    detail = {case.name: walked(case, one) for case in cases}
    for name, parts in detail.items():
        print(f"{name:16}" + "  ".join(f"{part} {value:8.1f}" for part, value in parts.items()))
    found = [record("grammar_vocabulary", None, "s", [loading]), *records(cases, args, size)]
    settings = {"vocab": size, "threads": args.threads, "steps": args.steps}
    save(args.json, found, {"settings": settings, "single_row_us": detail})


if __name__ == "__main__":
    main()
