"""OutputAssembler: the ids of one sequence become text, logprobs and a reason to finish.

The frontend's streamed and whole answers and the Python library all read a sequence through it,
so they agree to the character.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from octavo.shared.messages import Finished, FinishReason
from octavo.shared.sampling import SamplingParams
from octavo.shared.text.logprobs import TokenLogprob
from octavo.shared.text.repetition import RepetitionDetector
from octavo.shared.text.stop_strings import StopStrings
from octavo.shared.text.tokenizer import Tokenizer


class Delta(msgspec.Struct):
    """What a push added. `offsets`: where each token's text begins, in characters of the output.

    The tokens may be ahead of the text: part of a character or of a stop string is held back.
    """

    text: str = ""
    token_ids: list[int] = []
    logprobs: list[TokenLogprob] = []
    offsets: list[int] = []


class OutputAssembler:
    """One sequence. Once `finish_reason` is set, further pushes add nothing.

    `stop_reason` is the stop string or the id of `stop_token_ids` that ended the output, None
    for the model's own end. A caller that sees `finish_reason` "stop" before the engine has said
    Finished must abort the request: a stop string was hit. The same holds for "repetition".
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        sampling: SamplingParams,
        visible: frozenset[int] = frozenset(),
    ) -> None:
        """`visible`: special tokens that are text here."""
        self._sampling = sampling
        self._detokenizer = tokenizer.detokenizer(sampling.skip_special_tokens, visible)
        self._stops = StopStrings(sampling.stop, sampling.include_stop_str_in_output)
        asked = sampling.repetition_detection
        self._repetition = None if asked is None else RepetitionDetector(asked)
        self._is_plain = not sampling.stop and asked is None
        self._num_chars = 0
        self._parts: list[str] = []
        self.token_ids: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.keeps_logprobs = True
        self.offsets: list[int] = []
        self.finish_reason: FinishReason | None = None
        self.stop_reason: int | str | None = None

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def push(
        self,
        token_ids: Sequence[int],
        logprobs: Sequence[TokenLogprob] = (),
        finished: Finished | None = None,
    ) -> Delta:
        """Add tokens, with an entry of `logprobs` each where they were asked for."""
        if self._is_plain and finished is None and len(token_ids) == 1 and not logprobs:
            return self._push_plain(token_ids[0])
        delta = Delta()
        stop_at = len(token_ids) - 1 if finished and finished.stop_id is not None else None
        for i, token_id in enumerate(token_ids):
            if self.finish_reason is not None:
                break
            delta.token_ids.append(token_id)
            delta.logprobs.extend(logprobs[i : i + 1])
            delta.offsets.append(self._num_chars)
            delta.text += self._push_token(token_id, is_stop=i == stop_at)
        if finished is not None and self.finish_reason is None:
            delta.text += self._finish(finished)
        self._add(delta)
        return delta

    def _push_plain(self, token_id: int) -> Delta:
        """What most pushes are: one token, and nothing in the output to look out for."""
        if self.finish_reason is not None:
            return Delta()
        text, offset = self._detokenizer.push(token_id), self._num_chars
        self._num_chars += len(text)
        self._parts.append(text)
        self.token_ids.append(token_id)
        self.offsets.append(offset)
        return Delta(text, [token_id], [], [offset])

    def _push_token(self, token_id: int, is_stop: bool) -> str:
        self.token_ids.append(token_id)
        if is_stop and not self._sampling.include_stop_str_in_output:
            return ""
        text = self._push_text(self._detokenizer.push(token_id))
        if self._repetition is not None and self._repetition.push(token_id):
            text += self._end_repetition()
        return text

    def _end_repetition(self) -> str:
        if self.finish_reason is not None or len(self.token_ids) < self._sampling.min_tokens:
            return ""
        self.finish_reason = "repetition"
        return self._detokenizer.flush() + self._stops.flush()

    def _push_text(self, text: str) -> str:
        self._num_chars += len(text)
        if len(self.token_ids) <= self._sampling.min_tokens:
            return text
        text = self._stops.push(text)
        if self._stops.hit is not None:
            self.finish_reason, self.stop_reason = "stop", self._stops.hit
        return text

    def _finish(self, finished: Finished) -> str:
        text = self._push_text(self._detokenizer.flush())
        if self.finish_reason is None:
            text += self._stops.flush()
            self.finish_reason = finished.reason
            self.stop_reason = self._client_stop(finished.stop_id)
        return text

    def _client_stop(self, stop_id: int | None) -> int | None:
        is_eos = not self._sampling.ignore_eos and stop_id in self._sampling.eos_token_ids
        return None if is_eos else stop_id

    def _add(self, delta: Delta) -> None:
        self._parts.append(delta.text)
        if self.keeps_logprobs:
            self.logprobs += delta.logprobs
        self.offsets += delta.offsets
