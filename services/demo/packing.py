"""Documents to rows of token ids of one length, ready to lie on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from octavo.services.demo.dialogue import END_OF_TEXT, Segment

CHUNK = 20_000
IGNORED = -100
Row = np.ndarray[tuple[int], np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Rows:
    """`ids` int16 [rows, length + 1] and `trained` bool of the same shape.

    A row begins with a document's first token. `trained` marks the tokens that count as targets.
    """

    ids: Tensor
    trained: Tensor

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets, int64 [rows, length]; the target is IGNORED where none counts."""
        ids = self.ids[rows].long()
        targets = torch.where(self.trained[rows], ids, IGNORED)
        return ids[:, :-1], targets[:, 1:]

    def to(self, device: torch.device) -> Rows:
        return Rows(self.ids.to(device), self.trained.to(device))


def pack(tokenizer: Tokenizer, documents: Iterable[list[Segment]], length: int) -> Rows:
    """Fill rows with whole documents; what does not fit in a row of its own is cut."""
    width = length + 1
    padding = tokenizer.token_to_id(END_OF_TEXT)
    packed = list(_fill(tokenize(tokenizer, documents), width))
    ids = np.full((len(packed), width), padding, dtype=np.int16)
    trained = np.zeros((len(packed), width), dtype=np.bool_)
    for i, (row, marks) in enumerate(packed):
        ids[i, : len(row)] = row
        trained[i, : len(marks)] = marks
    return Rows(torch.from_numpy(ids), torch.from_numpy(trained))


def tokenize(
    tokenizer: Tokenizer, documents: Iterable[list[Segment]]
) -> Iterator[tuple[list[int], list[bool]]]:
    """Ids and marks of each document; every segment is encoded by itself."""
    for chunk in _chunks(documents):
        texts = [segment.text for document in chunk for segment in document]
        encoded = iter(tokenizer.encode_batch_fast(texts, add_special_tokens=False))
        for document in chunk:
            yield _joined(document, [next(encoded).ids for _ in document])


def _joined(document: list[Segment], parts: list[list[int]]) -> tuple[list[int], list[bool]]:
    ids: list[int] = []
    marks: list[bool] = []
    for segment, part in zip(document, parts, strict=True):
        ids += part
        marks += [segment.trained] * len(part)
    return ids, marks


def _chunks(documents: Iterable[list[Segment]]) -> Iterator[list[list[Segment]]]:
    chunk: list[list[Segment]] = []
    for document in documents:
        chunk.append(document)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _fill(
    documents: Iterable[tuple[list[int], list[bool]]], width: int
) -> Iterator[tuple[Row, Row]]:
    """Rows of at most `width` ids, and their marks, as arrays: lists of this would fill memory."""
    ids: list[int] = []
    marks: list[bool] = []
    for more_ids, more_marks in documents:
        if ids and len(ids) + len(more_ids) > width:
            yield np.array(ids, np.int16), np.array(marks, np.bool_)
            ids, marks = [], []
        ids += more_ids[: width - len(ids)]
        marks += more_marks[: width - len(marks)]
    if ids:
        yield np.array(ids, np.int16), np.array(marks, np.bool_)
