"""The template helper: renders chat templates, so that no process that matters has to.

One prompt at a time, under limits of processor time, address space and length. The sandbox keeps a
template from the machine; what it may cost is held here. The protocol is in `shared/helper` and
`shared/text/template_job`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections.abc import Iterator

import msgspec

from octavo.services.templates.rendering import own_template, rendered_of
from octavo.shared import helper
from octavo.shared.errors import ConfigError
from octavo.shared.text.chat_template import ChatTemplate
from octavo.shared.text.template_job import Rendered, TemplateConfig, TemplateJob

PATIENCE = 0.1
"""Processor seconds after which a prompt goes on behind all other work."""
BEHIND_ALL = 19

_decoder = msgspec.json.Decoder(TemplateJob)
TOO_MUCH_MEMORY = msgspec.json.encode(
    Rendered(error="The chat template needs too much memory for these messages.", param="messages")
)


def main() -> None:
    helper.adopt()
    questions = helper.questions()
    if (first := next(questions, None)) is None:
        return
    config = msgspec.json.decode(first, type=TemplateConfig)
    os.nice(config.niceness)
    signal.signal(signal.SIGVTALRM, lambda *_: os.nice(BEHIND_ALL))
    helper.limit_memory(config.memory_bytes)
    try:
        with helper.processor_seconds(config.cpu_seconds):
            own = own_template(config)
    except ConfigError as error:
        helper.reply(msgspec.json.encode(Rendered(error=error.message)))
        return
    gc.freeze()
    helper.reply(msgspec.json.encode(Rendered()))
    _serve(questions, own, config)


def _serve(questions: Iterator[bytes], own: ChatTemplate | None, config: TemplateConfig) -> None:
    """Answer until the parent closes the pipe, or one took so long that the next ones would have
    to be answered behind all other work: the parent starts another process for them."""
    for body in questions:
        with _limited(config):
            answer = _answer(body, own, config)
        helper.reply(answer)
        if os.nice(0) == BEHIND_ALL:
            return


@contextlib.contextmanager
def _limited(config: TemplateConfig) -> Iterator[None]:
    with helper.processor_seconds(config.cpu_seconds):
        signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)


def _answer(body: bytes, own: ChatTemplate | None, config: TemplateConfig) -> bytes:
    try:
        return msgspec.json.encode(rendered_of(_decoder.decode(body), own, config, len(body)))
    except MemoryError:
        return TOO_MUCH_MEMORY


if __name__ == "__main__":
    main()
