"""LLM: generate from Python, on the same scheduler and workers as the server."""

from __future__ import annotations

import difflib
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import msgspec
from tqdm import tqdm

from octavo.llm.engine import Engine
from octavo.llm.grammars import Grammars
from octavo.llm.outputs import RequestOutput
from octavo.llm.parameters import read_sampling
from octavo.llm.pooler import Params, Pooler, Prompts
from octavo.llm.pooling import (
    ClassificationOutput,
    EmbeddingOutput,
    PoolingOutput,
    PoolingRequestOutput,
    ScoringOutput,
)
from octavo.llm.prompts import Prompt, PromptForm, check_prompt, read_message, read_prompts
from octavo.llm.sequences import Collector, Request
from octavo.services.supervisor.children import Command, python_module
from octavo.services.supervisor.resolve import resolve
from octavo.services.supervisor.settings import build
from octavo.shared.config import EngineConfig, ServerConfig
from octavo.shared.environment import environment
from octavo.shared.errors import ConfigError, InvalidRequest
from octavo.shared.pooling import PoolingParams
from octavo.shared.sampling import SamplingParams
from octavo.shared.text.bad_words import with_bad_words
from octavo.shared.text.tokenizer import Tokenizer

Message = Mapping[str, Any]
BOUNDS = {"max_queued_requests": 10**9, "max_queued_tokens": 10**12}
"""All that is asked for at once may wait: there are no others."""
INTEGER_DEFAULTS = {"top_k": "top_k", "max_new_tokens": "max_tokens"}
"""Keys of generation_config.json whose values are integers -> our names."""


class LLM:
    """A model, loaded and ready.

    `model`: directory or hub id; None: the bundled demo model. `engine_args`: fields of
    `octavo.shared.config.EngineConfig`, and `chat_template` (a file). Raises ConfigError where
    they, or the model's files, are wrong; EngineDead once one of its processes has died.
    Use it in a `with` block, or `close` it. For one thread at a time.
    """

    def __init__(
        self, model: str | None = None, *, _command: Command = python_module, **engine_args: Any
    ) -> None:
        _check_names(engine_args)
        asked = build(engine_args | {"model": model or "", **BOUNDS})
        environ = environment()
        self._server, self._model = resolve(asked.server, environ)
        self._tokenizer = _load_tokenizer(self._server)
        self._grammars = Grammars(self._tokenizer, self._model)
        self._engine = Engine(self._server, self._model, environ, command=_command)
        self._pooler = Pooler(self._engine, self._tokenizer, self._model)
        self._closer = weakref.finalize(self, self._engine.close)

    def generate(
        self,
        prompts: PromptForm | Sequence[PromptForm],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
        priority: int | Sequence[int] | None = None,
    ) -> list[RequestOutput]:
        """Generate for one prompt or many; outputs in the order of the prompts.

        A list of parameters or priorities has one for each prompt. Raises InvalidRequest or
        ContextTooLong before anything runs, EngineDead if a process dies. A sequence that the
        engine had to give up has finish_reason "error".
        """
        read = read_prompts(prompts, self._tokenizer)
        return self._run(read, sampling_params, use_tqdm, priority)

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
        priority: int | Sequence[int] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[RequestOutput]:
        """`generate` for one conversation or many, through the model's chat template."""
        alone = bool(messages) and isinstance(messages[0], Mapping)
        prompts = []
        for conversation in [messages] if alone else messages:
            text = self._tokenizer.render_chat(
                [read_message(message) for message in conversation],  # type: ignore[arg-type]
                **(chat_template_kwargs or {}),
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
            )
            ids = self._tokenizer.encode(text, add_special_tokens=False)
            prompts.append(Prompt(text, ids))
        return self._run(prompts, sampling_params, use_tqdm, priority)

    def encode(
        self, prompts: Prompts, pooling_params: Params = None, *, use_tqdm: bool = True
    ) -> list[PoolingRequestOutput[PoolingOutput]]:
        """The vector that a pooling model makes of each prompt (`.outputs.data`)."""
        return self._pooler.encode(prompts, pooling_params, use_tqdm)

    def embed(
        self, prompts: Prompts, *, use_tqdm: bool = True, pooling_params: Params = None
    ) -> list[PoolingRequestOutput[EmbeddingOutput]]:
        """Embeddings (`.outputs.embedding`), in the order of the prompts. Raises InvalidRequest
        for a model that makes none."""
        return self._pooler.embed(prompts, pooling_params, use_tqdm)

    def classify(
        self, prompts: Prompts, *, use_tqdm: bool = True, pooling_params: Params = None
    ) -> list[PoolingRequestOutput[ClassificationOutput]]:
        """The classes' probabilities (`.outputs.probs`)."""
        return self._pooler.classify(prompts, pooling_params, use_tqdm)

    def score(
        self,
        data_1: str | Sequence[str],
        data_2: str | Sequence[str],
        /,
        *,
        use_tqdm: bool = True,
        pooling_params: PoolingParams | None = None,
        truncate_prompt_tokens: int | None = None,
    ) -> list[PoolingRequestOutput[ScoringOutput]]:
        """How well texts go together (`.outputs.score`): one with one, one with many, or as many
        with as many. By a cross-encoder, else by the cosine of embeddings."""
        return self._pooler.score(data_1, data_2, pooling_params, use_tqdm, truncate_prompt_tokens)

    def get_tokenizer(self) -> Tokenizer:
        return self._tokenizer

    def get_default_sampling_params(self) -> SamplingParams:
        """The defaults, with what the model's generation_config.json says."""
        values: dict[str, Any] = {}
        for name, value in self._model.sampling_defaults.items():
            if name in INTEGER_DEFAULTS:
                values[INTEGER_DEFAULTS[name]] = int(value)
            else:
                values[name] = value
        return SamplingParams(**values)

    def close(self) -> None:
        """Stop the processes and free their memory."""
        self._closer()

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(
        self,
        prompts: list[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        use_tqdm: bool,
        priority: int | Sequence[int] | None,
    ) -> list[RequestOutput]:
        if self._model.pooling is not None:
            raise InvalidRequest("This model makes vectors of texts; it generates none.")
        sampling = sampling_params or self.get_default_sampling_params()
        each_sampling = _one_each("sampling_params", sampling, SamplingParams, len(prompts))
        each_priority = _one_each("priority", priority or 0, int, len(prompts))
        requests = [
            Request(prompt, self._complete(prompt, wanted), urgency)
            for prompt, wanted, urgency in zip(prompts, each_sampling, each_priority, strict=True)
        ]
        total = sum(request.sampling.n for request in requests)
        with tqdm(total=total, desc="Sequences", disable=not use_tqdm) as bar:
            collector = Collector(self._engine, self._tokenizer, requests)
            return collector.run(bar.update)

    def _complete(self, prompt: Prompt, sampling: SamplingParams) -> SamplingParams:
        """Check prompt and parameters; fill in what the model's files decide."""
        check_prompt(prompt, self._model.vocab_size, self._model.max_model_len)
        sampling = read_sampling(sampling)
        sampling.verify(self._model.vocab_size)
        grammar = sampling.grammar
        if sampling.structured_outputs is not None:
            grammar = self._grammars.spec(sampling.structured_outputs)
        sampling = with_bad_words(sampling, self._model.vocab_size, self._tokenizer)
        room = self._model.max_model_len - len(prompt.token_ids)
        return msgspec.structs.replace(
            sampling,
            max_tokens=min(sampling.max_tokens or room, room),
            eos_token_ids=self._model.eos_token_ids,
            structured_outputs=None,
            grammar=grammar,
        )


def _one_each(name: str, value: Any, kind: type[Any], count: int) -> list[Any]:
    if isinstance(value, kind):
        return [value] * count
    if len(value) != count:
        raise InvalidRequest(f"{name} has {len(value)} entries for {count} prompts.", param=name)
    return list(value)


def _check_names(engine_args: Mapping[str, Any]) -> None:
    known = {*EngineConfig.__struct_fields__, "chat_template"} - {"model"}
    for name in engine_args.keys() - known:
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise ConfigError(f"unknown argument {name}{hint}")


def _load_tokenizer(server: ServerConfig) -> Tokenizer:
    path = server.engine.tokenizer or server.engine.model
    return Tokenizer.load(path, server.chat_template)
