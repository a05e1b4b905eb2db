"""What a request asks of its output's form, as a grammar that is known to compile."""

from __future__ import annotations

from octavo.services.frontend.schema import GenerationRequest
from octavo.services.frontend.service import Service
from octavo.shared.grammar.request import request_grammar
from octavo.shared.grammar.spec import GrammarSpec


async def constraint_of(
    body: GenerationRequest, service: Service, tenant: str
) -> GrammarSpec | None:
    """The grammar of `response_format` or `structured_outputs`; None: the output is free.

    Raises InvalidRequest, naming the field, for what cannot be used; Overloaded when too many
    wait for their grammar to be compiled.
    """
    spec = request_grammar(body.response_format, body.structured_outputs)
    if spec is None:
        return None
    by_format = body.structured_outputs is None
    param = "response_format" if by_format else "structured_outputs"
    return await service.grammars.check(spec, param, tenant)
