"""The grammar helper: compiles grammars of strangers, so that no process that matters has to.

One grammar at a time, under limits of processor time, address space and stack. Whatever goes over
them ends this process, and its parent starts another. The protocol is in `shared/helper` and
`shared/grammar/helper`.
"""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import msgspec
from llguidance import LLTokenizer

from octavo.services.grammar.endings import can_end
from octavo.services.grammar.rehearsal import rehearse
from octavo.shared import helper
from octavo.shared.errors import ConfigError
from octavo.shared.grammar.compiling import (
    NO_TEXT,
    GrammarError,
    compile_grammar,
    translate,
    vocabulary,
)
from octavo.shared.grammar.helper import HelperConfig, Verdict
from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.text.tokenizer import Tokenizer

STACK_BYTES = 1 << 20
"""Less than any thread has that compiles or matches later: what passes here passes there."""


def main() -> None:
    helper.adopt()
    threading.stack_size(STACK_BYTES)
    server = threading.Thread(target=serve)
    server.start()
    server.join()


def serve() -> None:
    """Answer until the parent closes the pipe."""
    questions = helper.questions()
    if (first := next(questions, None)) is None:
        return
    config = msgspec.msgpack.decode(first, type=HelperConfig)
    tokenizer = Tokenizer.load(Path(config.tokenizer))
    try:
        known = vocabulary(tokenizer, config.vocab_size, config.eos_token_ids)
    except ConfigError as error:
        reply(Verdict(error=str(error)))
        return
    gc.freeze()
    helper.limit_memory(helper.address_space() + config.memory_bytes)
    reply(Verdict())
    for body in questions:
        spec = msgspec.msgpack.decode(body, type=GrammarSpec)
        with helper.processor_seconds(config.cpu_seconds):
            verdict = judge(spec, known)
        reply(verdict)


def judge(spec: GrammarSpec, known: LLTokenizer) -> Verdict:
    try:
        checked = translate(spec)
        core = compile_grammar(checked, known)
        if checked.kind == "json_schema" and not can_end(msgspec.json.decode(checked.text)):
            raise GrammarError(NO_TEXT)
        rehearse(core, known.vocab_size)
    except GrammarError as error:
        return Verdict(error=str(error))
    except MemoryError:
        return Verdict(error="it takes too much memory")
    return Verdict(spec=checked)


def reply(verdict: Verdict) -> None:
    helper.reply(msgspec.msgpack.encode(verdict))


if __name__ == "__main__":
    main()
