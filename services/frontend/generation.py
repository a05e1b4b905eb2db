"""Generation: one HTTP request while the engine works on it, read as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from starlette.types import Receive

from octavo.services.frontend.attendance import attended
from octavo.services.frontend.engine_client import EngineClient
from octavo.services.frontend.inbox import Inbox, Piece
from octavo.services.frontend.prompts import Prompt
from octavo.services.frontend.replies import PromptTokensDetails, Usage
from octavo.shared.errors import (
    ContextTooLong,
    DeadlineExceeded,
    EngineDead,
    InvalidRequest,
    OctavoError,
    Overloaded,
    RateLimited,
    RequestFailed,
)
from octavo.shared.messages import Finished
from octavo.shared.sampling import SamplingParams
from octavo.shared.text.logprobs import TokenLogprob
from octavo.shared.text.output import Delta, OutputAssembler
from octavo.shared.text.tokenizer import Tokenizer


class Generation:
    """The choices of one request: choice `p * n + i` is the i-th of prompt p.

    `echo_only`: only the prompt is wanted (max_tokens 0); the one token that the engine makes is
    dropped. `visible`: special tokens that are part of the text.
    """

    def __init__(
        self,
        engine: EngineClient,
        inbox: Inbox,
        tokenizer: Tokenizer,
        prompts: Sequence[tuple[Prompt, SamplingParams]],
        *,
        echo_only: bool = False,
        visible: frozenset[int] = frozenset(),
    ) -> None:
        self._engine = engine
        self._inbox = inbox
        self._echo_only = echo_only
        self._prompts = [prompt for prompt, _ in prompts]
        self._n = prompts[0][1].n
        self.outputs = [
            OutputAssembler(tokenizer, sampling, visible)
            for _, sampling in prompts
            for _ in range(self._n)
        ]
        self._num_open = len(self.outputs)

    @property
    def done(self) -> bool:
        return not self._num_open

    def prompt(self, index: int) -> Prompt:
        """The prompt of a choice."""
        return self._prompts[index // self._n]

    def prompt_logprobs(self, index: int) -> list[TokenLogprob | None]:
        """One entry for each prompt token of a choice; the first token has none."""
        known = self._inbox.streams[index].prompt_logprobs
        return [known.get(position) for position in range(len(self.prompt(index).ids))]

    async def next(self, timeout: float | None = None) -> list[tuple[int, Delta]]:
        """What came in, by choice; empty after `timeout` seconds of nothing.

        Raises ClientGone, or what the engine said of a sequence that it could not finish.
        """
        return self._deltas(await self._inbox.next(timeout))

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until there is something to take; False after `timeout` seconds of nothing."""
        return await self._inbox.wait(timeout)

    def take(self) -> list[tuple[int, Delta]]:
        """What is there by now, or the first of much; raises as `next`."""
        return self._deltas(self._inbox.take())

    @property
    def has_news(self) -> bool:
        """Whether there is something to take."""
        return self._inbox.has_news

    def watch(self, on_news: Callable[[], None] | None) -> None:
        """Have `on_news` called, from the engine's message, when there is something to take."""
        self._inbox.on_news = on_news

    def on_flood(self, cut_off: Callable[[], None]) -> None:
        """Have `cut_off` called where the client leaves too much unread."""
        self._inbox.on_flood = cut_off

    def _deltas(self, pieces: list[tuple[int, Piece]]) -> list[tuple[int, Delta]]:
        return [
            (index, self._read(index, piece))
            for index, piece in pieces
            if self.outputs[index].finish_reason is None
        ]

    def keep_no_logprobs(self) -> None:
        """They are read as they come."""
        for output in self.outputs:
            output.keeps_logprobs = False

    async def run(self) -> None:
        """Read to the end of every choice."""
        while not self.done:
            await self.next()

    def settle(self, index: int, token_ids: Sequence[int], finished: Finished) -> None:
        """A choice whose tokens are known already."""
        self.outputs[index].push(token_ids, finished=finished)
        self._num_open -= 1

    def usage(self) -> Usage:
        prompt_tokens = sum(len(prompt.ids) for prompt in self._prompts)
        completion_tokens = sum(len(output.token_ids) for output in self.outputs)
        cached = sum(stream.cached_tokens for stream in self._inbox.streams[:: self._n])
        return Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            total_tokens=prompt_tokens + completion_tokens,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=cached),
        )

    def attended(self, receive: Receive) -> AbstractAsyncContextManager[None]:
        """While the client is there: its leaving, like any other end, aborts what still runs."""
        return attended(self._engine, self._inbox, receive)

    def close(self) -> None:
        """Nobody reads any more: what still runs is aborted."""
        self._inbox.close()
        self._engine.abort(self._inbox.streams)

    def _read(self, index: int, piece: Piece) -> Delta:
        finished = piece.finished
        if finished is not None and finished.reason == "error":
            raise error_of(finished)
        output = self.outputs[index]
        if self._echo_only:
            end = Finished(request_id=b"", reason="length") if finished else None
            delta = output.push([], finished=end)
        else:
            delta = output.push(piece.token_ids, piece.logprobs, finished)
        if output.finish_reason is not None:
            self._num_open -= 1
            if finished is None:
                # A stop string, or a repetition: the engine sees no text.
                self._engine.abort([self._inbox.streams[index]], output.finish_reason)
        return delta


def error_of(finished: Finished) -> OctavoError:
    """What the engine said of a sequence that it could not finish."""
    match finished.error:
        case "overloaded":
            return Overloaded(
                finished.message or "The server is full; try again soon.",
                retry_after=finished.retry_after,
            )
        case "too_long":
            return ContextTooLong(finished.message or "The request does not fit into the context.")
        case "rate_limited":
            return RateLimited(
                finished.message or "This API key is over its limit.", finished.retry_after
            )
        case "deadline_exceeded":
            return DeadlineExceeded(finished.message or "The deadline has passed.")
        case "out_of_memory":
            return Overloaded(
                finished.message or "The server has not enough memory.",
                code="out_of_memory",
                retry_after=finished.retry_after,
            )
        case "request_quarantined":
            return RequestFailed(
                finished.message or "The workers fail on this request.", code="request_quarantined"
            )
        case "engine_dead":
            return EngineDead(finished.message or "The engine is not running.")
        case "constraint_error":
            return InvalidRequest(finished.message or "The constraints exclude each other.")
        case "numerical_error":
            return RequestFailed(
                "The model's output is not a number for this request.", code="numerical_error"
            )
    return RequestFailed("The engine failed on this request.")
