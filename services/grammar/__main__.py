"""The grammar helper: compiles grammars of strangers, so that no process that matters has to.

One grammar at a time, under limits of processor time, address space and stack. Whatever goes over
them ends this process, and its parent starts another. The protocol is in `shared/grammar/helper`.
"""

from __future__ import annotations

import argparse
import gc
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import BinaryIO

import msgspec
from llguidance import LLTokenizer

from octavo.services.grammar.endings import can_end
from octavo.shared.grammar.compiling import (
    NO_TEXT,
    GrammarError,
    compile_grammar,
    translate,
    vocabulary,
)
from octavo.shared.grammar.helper import HelperConfig, Verdict, frame, read_frame
from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.process import die_with_parent
from octavo.shared.text.tokenizer import Tokenizer

STACK_BYTES = 1 << 20
"""Less than any thread has that compiles or matches later: what passes here passes there."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    die_with_parent(parser.parse_args().parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when we go
    threading.stack_size(STACK_BYTES)
    server = threading.Thread(target=serve, args=(sys.stdin.buffer, sys.stdout.buffer))
    server.start()
    server.join()


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the parent closes the pipe."""
    if (first := read_frame(requests.read)) is None:
        return
    config = msgspec.msgpack.decode(first, type=HelperConfig)
    tokenizer = Tokenizer.load(Path(config.tokenizer))
    known = vocabulary(tokenizer, config.vocab_size, config.eos_token_ids)
    gc.freeze()
    limit_memory(config.memory_bytes)
    reply(answers, Verdict())
    while (body := read_frame(requests.read)) is not None:
        spec = msgspec.msgpack.decode(body, type=GrammarSpec)
        # Unlike an alarm, the timer counts processor time, and its signal kills: no handler has
        # to get a turn while foreign code runs.
        signal.setitimer(signal.ITIMER_PROF, config.cpu_seconds)
        verdict = judge(spec, known)
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        reply(answers, verdict)


def judge(spec: GrammarSpec, known: LLTokenizer) -> Verdict:
    try:
        checked = translate(spec)
        compile_grammar(checked, known)
        if checked.kind == "json_schema" and not can_end(msgspec.json.decode(checked.text)):
            raise GrammarError(NO_TEXT)
    except GrammarError as error:
        return Verdict(error=str(error))
    except MemoryError:
        return Verdict(error="it takes too much memory")
    return Verdict(spec=checked)


def reply(answers: BinaryIO, verdict: Verdict) -> None:
    answers.write(frame(verdict))
    answers.flush()


def limit_memory(extra: int) -> None:
    """Allow `extra` bytes of address space more than what is mapped now; no core dumps."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
