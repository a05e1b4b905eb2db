"""Scheduler and worker that speak the real protocol and need no model: run by path.

The fake model continues a prompt by counting: each token is the one before plus one. It also
gives log-probabilities, and reads orders from the prompt's first token (see `ORDERS`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from octavo.shared.config import FRONTEND_SOCKET
from octavo.shared.messages import (
    Abort,
    Finished,
    Logprobs,
    Outputs,
    PromptLogprobsOutput,
    Started,
    Submit,
    ToFrontend,
    ToScheduler,
    pack,
    pack_floats,
    unpack,
)
from octavo.shared.process import Child, run_child
from octavo.shared.transport import Hub

CRASH, FAIL, FOREVER = 250, 251, 252
ORDERS = (CRASH, FAIL, FOREVER)


def main(child: Child) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if child.config.role == "worker":
        child.ready()
        threading.Event().wait()
    hub: Hub[ToFrontend, ToScheduler] = Hub(child.config.path, FRONTEND_SOCKET, ToScheduler)
    child.ready(num_blocks=10, kv_tokens=160, block_size=16, max_concurrency=1.0)
    aborted: set[bytes] = set()
    while True:
        hub.socket.poll()
        while (item := hub.receive()) is not None:
            peer, message = item
            if isinstance(message, Submit):
                answer(hub, peer, message)
            elif isinstance(message, Abort):
                aborted.update(message.request_ids)
                note(f"aborted {len(aborted)}")


def answer(hub: Hub[ToFrontend, ToScheduler], peer: bytes, submit: Submit) -> None:
    prompt = unpack(submit.prompt_ids).tolist()
    note(f"submit {submit.sampling.seed} {submit.priority} {submit.sampling.max_tokens}")
    request_id, sampling = submit.request_id, submit.sampling
    if prompt[0] == CRASH:
        os.kill(os.getpid(), signal.SIGKILL)
    if prompt[0] == FAIL:
        failure = Finished(request_id, "error", error="too_long", message="no room")
        hub.send(peer, Outputs(finished=[failure]))
        return
    tokens = [(prompt[-1] + 1 + i) % 256 for i in range(sampling.max_tokens or 0)]
    for number, token in enumerate(tokens):
        stopped = token in sampling.stop_ids
        last = stopped or (number == len(tokens) - 1 and prompt[0] != FOREVER)
        finished = Finished(request_id, "length")
        if stopped:
            finished = Finished(request_id, "stop", stop_id=token)
        hub.send(
            peer,
            Outputs(
                request_ids=request_id,
                token_ids=pack([token]),
                logprob_rows=pack([0]) if sampling.logprobs is not None else b"",
                logprobs=logprobs([token]) if sampling.logprobs is not None else None,
                prompt_logprobs=prompt_logprobs(submit, prompt) if number == 0 else [],
                started=[Started(request_id, 3)] if number == 0 else [],
                finished=[finished] if last else [],
            ),
        )
        if last:
            return


def prompt_logprobs(submit: Submit, prompt: list[int]) -> list[PromptLogprobsOutput]:
    if submit.sampling.prompt_logprobs is None:
        return []
    return [PromptLogprobsOutput(submit.request_id, 1, logprobs(prompt[1:]))]


def logprobs(tokens: list[int]) -> Logprobs:
    """Every token has rank 2 and -1.5; the likeliest are 7 (-0.5), itself, and 8 (-2.5)."""
    return Logprobs(
        width=4,
        token_ids=pack([[token, 7, token, 8] for token in tokens]),
        logprobs=pack_floats([[-1.5, -0.5, -1.5, -2.5] for _ in tokens]),
        ranks=pack([2 for _ in tokens]),
    )


def note(line: str) -> None:
    path = os.environ.get("OCTAVO_TEST_LOG")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    run_child(main)
