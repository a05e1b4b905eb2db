"""The pooling half of `LLM`: encode, embed, classify and score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

import msgspec
from tqdm import tqdm

from octavo.llm.engine import Engine
from octavo.llm.pooling import (
    ClassificationOutput,
    EmbeddingOutput,
    PoolingJob,
    PoolingOutput,
    PoolingRequestOutput,
    ScoringOutput,
    require_pooling,
    run_pooling,
)
from octavo.llm.prompts import PromptForm, check_text, read_prompts
from octavo.shared.config import ModelInfo
from octavo.shared.errors import InvalidRequest
from octavo.shared.messages import Floats
from octavo.shared.pooling import PoolingInfo, PoolingParams, PoolingTask, check_scores, cosine
from octavo.shared.text.text_ids import TextIds
from octavo.shared.text.tokenizer import Tokenizer

T = TypeVar("T")
Prompts: TypeAlias = "PromptForm | Sequence[PromptForm]"
Params = PoolingParams | Sequence[PoolingParams] | None


class Pooler:
    def __init__(self, engine: Engine, tokenizer: Tokenizer, model: ModelInfo) -> None:
        self._engine, self._tokenizer, self._model = engine, tokenizer, model

    def encode(
        self, prompts: Prompts, params: Params, use_tqdm: bool
    ) -> list[PoolingRequestOutput[PoolingOutput]]:
        return self._each(prompts, params, use_tqdm, PoolingOutput, "embed", "classify")

    def embed(
        self, prompts: Prompts, params: Params, use_tqdm: bool
    ) -> list[PoolingRequestOutput[EmbeddingOutput]]:
        return self._each(prompts, params, use_tqdm, lambda v: EmbeddingOutput(v.tolist()), "embed")

    def classify(
        self, prompts: Prompts, params: Params, use_tqdm: bool
    ) -> list[PoolingRequestOutput[ClassificationOutput]]:
        return self._each(
            prompts, params, use_tqdm, lambda v: ClassificationOutput(v.tolist()), "classify"
        )

    def score(
        self,
        first: str | Sequence[str],
        second: str | Sequence[str],
        params: PoolingParams | None,
        use_tqdm: bool,
        truncate: int | None,
    ) -> list[PoolingRequestOutput[ScoringOutput]]:
        """1:1, 1:N or N:N."""
        info = require_pooling(self._model.pooling, "embed", "classify")
        check_scores(info)
        ones, others = _texts(first), _texts(second)
        if not others or len(ones) not in (1, len(others)):
            raise InvalidRequest(
                f"{len(ones)} texts cannot be scored with {len(others)}: give one with one, one "
                "with many, or as many with as many."
            )
        ones = ones if len(ones) > 1 else ones * len(others)
        pairs = list(zip(ones, others, strict=True))
        if info.task == "classify":
            asked = _read(params or PoolingParams(), info)
            return self._cross_encoded(pairs, asked, use_tqdm, truncate)
        return self._compared(pairs, use_tqdm, truncate)

    def _cross_encoded(
        self,
        pairs: list[tuple[str, str]],
        params: PoolingParams,
        use_tqdm: bool,
        truncate: int | None,
    ) -> list[PoolingRequestOutput[ScoringOutput]]:
        encode = self._tokenizer.encode_text
        found = [encode(one, other, max_tokens=truncate) for one, other in pairs]
        vectors = self._run(found, [params] * len(found), use_tqdm)
        return [
            PoolingRequestOutput(str(i), ScoringOutput(float(vector[0])), text.ids)
            for i, (text, vector) in enumerate(zip(found, vectors, strict=True))
        ]

    def _compared(
        self, pairs: list[tuple[str, str]], use_tqdm: bool, truncate: int | None
    ) -> list[PoolingRequestOutput[ScoringOutput]]:
        """Each text is computed once."""
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        encoded = [self._tokenizer.encode_text(text, max_tokens=truncate) for text in texts]
        vectors = self._run(encoded, [PoolingParams()] * len(texts), use_tqdm)
        known = dict(zip(texts, zip(encoded, vectors, strict=True), strict=True))
        outputs = []
        for i, (one, other) in enumerate(pairs):
            (ids, vector), (other_ids, other_vector) = known[one], known[other]
            score = ScoringOutput(cosine(vector, other_vector))
            outputs.append(PoolingRequestOutput(str(i), score, [*ids.ids, *other_ids.ids]))
        return outputs

    def _each(
        self,
        prompts: Prompts,
        params: Params,
        use_tqdm: bool,
        make: Callable[[Floats], T],
        *tasks: PoolingTask,
    ) -> list[PoolingRequestOutput[T]]:
        """One output a prompt, in order."""
        info = require_pooling(self._model.pooling, *tasks)
        read = [TextIds(prompt.token_ids) for prompt in read_prompts(prompts, self._tokenizer)]
        wanted = _one_each(params, len(read), info)
        vectors = self._run(read, wanted, use_tqdm)
        return [
            PoolingRequestOutput(str(i), make(vector), text.ids)
            for i, (text, vector) in enumerate(zip(read, vectors, strict=True))
        ]

    def _run(
        self, texts: Sequence[TextIds], params: Sequence[PoolingParams], use_tqdm: bool
    ) -> list[Floats]:
        for text in texts:
            check_text(text.ids, self._model.vocab_size, self._model.max_model_len)
        jobs = [
            PoolingJob(text.ids, asked.starting(text.second_start))
            for text, asked in zip(texts, params, strict=True)
        ]
        with tqdm(total=len(jobs), desc="Texts", disable=not use_tqdm) as bar:
            return run_pooling(self._engine, jobs, bar.update)


def _texts(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _one_each(params: Params, count: int, info: PoolingInfo) -> list[PoolingParams]:
    if params is None or isinstance(params, PoolingParams):
        each = [params or PoolingParams()] * count
    else:
        each = list(params)
    if len(each) != count:
        raise InvalidRequest(
            f"pooling_params has {len(each)} entries for {count} prompts.", param="pooling_params"
        )
    return [_read(one, info) for one in each]


def _read(params: PoolingParams, info: PoolingInfo) -> PoolingParams:
    """As the engine will read them: Python does not check the types of a struct's fields."""
    try:
        read = msgspec.convert(msgspec.structs.asdict(params), PoolingParams, strict=True)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"PoolingParams: {error}", param="pooling_params") from error
    read.verify(info)
    return read
