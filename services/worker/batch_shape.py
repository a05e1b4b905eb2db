"""BatchShape: how much room a batch takes in the static buffers; what a CUDA graph is made for."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.services.worker.slots import Rows


@dataclass(frozen=True)
class BatchShape:
    """At most `decodes` rows of one token, and `prefills` of more that have `prefill_tokens`
    together."""

    rows: int
    tokens: int
    outputs: int
    """Hidden states that the forward pass gives: of all tokens; or fewer, of those that sample."""
    decodes: int
    prefills: int = 0
    prefill_tokens: int = 0
    padded: bool = False
    """Whether tokens may be of no row."""
    prefixes: bool = False
    """Whether rows of a decode batch may share their beginnings."""

    @staticmethod
    def of(rows: Rows, prefixes: bool = False) -> BatchShape:
        """What the rows need, and no more."""
        longer = rows.num_tokens[rows.num_tokens > 1]
        return BatchShape(
            rows=rows.num_rows,
            tokens=rows.total_tokens,
            outputs=rows.total_tokens if rows.whole else len(rows.samples),
            decodes=rows.num_rows if len(longer) < rows.num_rows else 0,
            prefills=len(longer),
            prefill_tokens=int(longer.sum()),
            prefixes=prefixes,
        )

    @staticmethod
    def decode_of(rows: int, prefixes: bool = False) -> BatchShape:
        """One token a row; those of padded rows too."""
        return BatchShape(rows, rows, rows, rows, prefixes=prefixes)

    @staticmethod
    def mixed_of(rows: int, tokens: int) -> BatchShape:
        """Any rows that have so many tokens together."""
        return BatchShape(rows, tokens, min(rows, tokens), rows, rows, tokens, padded=True)

    @property
    def narrows(self) -> bool:
        """Whether only the tokens that sample go on behind the last layer's attention."""
        return self.outputs < self.tokens

    @property
    def decode(self) -> bool:
        return self.prefills == 0
