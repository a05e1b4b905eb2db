"""How well pairs of texts go together: a cross-encoder reads both, else embeddings are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request

from octavo.services.frontend.pooling.call import pooled, pooling_of, usage_of
from octavo.services.frontend.pooling.prompts import pair_prompts, text_prompts
from octavo.services.frontend.pooling.replies import PoolingUsage
from octavo.services.frontend.pooling.schema import TextRequest
from octavo.services.frontend.service import Service
from octavo.shared.errors import InvalidRequest
from octavo.shared.messages import unpack_floats
from octavo.shared.pooling import PoolingParams, check_scores, cosine


@dataclass(frozen=True)
class Pairs:
    """`first` has as many texts as `second`, or one for all. `names`: of the request's fields."""

    first: Sequence[str]
    second: Sequence[str]
    names: tuple[str, str]

    def texts(self) -> list[tuple[str, str]]:
        first = self.first if len(self.first) > 1 else [self.first[0]] * len(self.second)
        return list(zip(first, self.second, strict=True))


async def scores_of(
    service: Service, pairs: Pairs, body: TextRequest, request: Request
) -> tuple[list[float], PoolingUsage]:
    """One score a pair, in order. Raises InvalidRequest where the model gives none."""
    info = pooling_of(service, "embed", "classify")
    check_scores(info)
    if info.task == "embed":
        return await _compared(service, pairs, body, request)
    params = PoolingParams(use_activation=body.activates)
    prompts = await pair_prompts(pairs.texts(), body, service, pairs.names[1])
    vectors = await pooled(service, prompts, params, body, request)
    return [float(unpack_floats(one)[0]) for one in vectors], usage_of(prompts)


async def _compared(
    service: Service, pairs: Pairs, body: TextRequest, request: Request
) -> tuple[list[float], PoolingUsage]:
    first = await text_prompts(pairs.first, body, service, pairs.names[0])
    second = await text_prompts(pairs.second, body, service, pairs.names[1])
    prompts = [*first, *second]
    vectors = await pooled(service, prompts, PoolingParams(), body, request)
    found = [unpack_floats(one) for one in vectors]
    others = found[len(first) :]
    ones = found[: len(first)] if len(first) > 1 else [found[0]] * len(others)
    scores = [cosine(one, other) for one, other in zip(ones, others, strict=True)]
    return scores, usage_of(prompts)


def paired(first: Sequence[str], second: Sequence[str], names: tuple[str, str]) -> Pairs:
    """Raises InvalidRequest unless it is 1:1, 1:N or N:N."""
    for texts, name in zip((first, second), names, strict=True):
        if not texts:
            raise InvalidRequest(f"{name} is empty.", param=name)
    if len(first) not in (1, len(second)):
        raise InvalidRequest(
            f"{names[0]} has {len(first)} texts and {names[1]} {len(second)}: it must be one with "
            "one, one with many, or as many with as many.",
            param=names[1],
        )
    return Pairs(first, second, names)
