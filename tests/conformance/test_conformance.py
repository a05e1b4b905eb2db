"""Every request field of the contract: what it does, where it ends, and docs/api.md from both.

`make docs` rewrites the page; here it must be what the cases say.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import conformance_chat
import conformance_generation
import conformance_texts
import conformance_tools
import conformance_users
import pytest
from conformance import CHAT, COMPLETIONS, Case, Probe, table
from front_engine import frontend
from front_tokenizers import load_byte_level

from octavo.services.frontend.app import SERVED
from octavo.services.frontend.schema import ChatRequest, CompletionRequest
from octavo.shared.text.tokenizer import Tokenizer

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "api.md"
SECTIONS = {
    "Chat and text completions": conformance_generation.GENERATION,
    "Whose a request is": conformance_users.USERS,
    "POST /v1/chat/completions": conformance_chat.CASES,
    "Tools and reasoning, in POST /v1/chat/completions": conformance_tools.CASES,
    "POST /v1/completions": conformance_texts.TEXTS,
    "POST /tokenize": conformance_texts.TOKENS,
    "POST /detokenize": conformance_texts.DETOKENS,
}
CASES = [case for cases in SECTIONS.values() for case in cases]
EACH = [
    pytest.param(case, route, id=f"{case.id}-{route}") for case in CASES for route in case.routes
]
SHARED = """
frequency_penalty logit_bias n presence_penalty seed stop stream stream_options temperature top_p
user model response_format use_beam_search top_k min_p repetition_penalty length_penalty
stop_token_ids include_stop_str_in_output ignore_eos min_tokens skip_special_tokens
spaces_between_special_tokens truncate_prompt_tokens truncation_side prompt_logprobs
logprob_token_ids allowed_token_ids bad_words thinking_token_budget watermarking echo
add_special_tokens structured_outputs priority request_id session_id return_tokens_as_token_ids
return_token_ids return_prompt_text return_weight_versions return_token_offsets cache_salt
kv_transfer_params ec_transfer_params vllm_xargs repetition_detection stream_interval
routed_experts_prompt_start max_tokens logprobs
"""
CONTRACT = {
    CHAT: f"""{SHARED} messages top_logprobs max_completion_tokens tools tool_choice
    reasoning_effort parallel_tool_calls include_reasoning add_generation_prompt
    continue_final_message documents chat_template chat_template_kwargs media_io_kwargs
    mm_processor_kwargs mm_payload""",
    COMPLETIONS: f"{SHARED} prompt suffix prompt_embeds best_of",
}
"""The fields of vLLM's requests, by name."""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_byte_level(tmp_path_factory.mktemp("tokenizer"))


def run(tokenizer: Tokenizer, case: Case, route: str, test: Callable[[Probe], Any]) -> None:
    async def main() -> None:
        async with frontend(tokenizer, **case.config) as front:
            await test(Probe(front, route))

    asyncio.run(main())


@pytest.mark.parametrize(("case", "route"), EACH)
def test_effect(tokenizer: Tokenizer, case: Case, route: str) -> None:
    run(tokenizer, case, route, case.proof)


@pytest.mark.parametrize(("case", "route"), [one for one in EACH if one.values[0].borders])  # type: ignore[union-attr]
def test_border(tokenizer: Tokenizer, case: Case, route: str) -> None:
    async def test(probe: Probe) -> None:
        for body in case.bodies():
            response = await probe.post(**body)
            error = response.json()["error"]
            assert response.status_code == 400, (body, error)
            assert str(error["param"]).startswith(case.field), (body, error)
        assert probe.front.engine.submits == []

    run(tokenizer, case, route, test)


def missing(fields: set[str], route: str) -> set[str]:
    proven = {case.field for case in CASES if route in case.routes}
    return fields - proven


def test_every_field_of_the_structs_has_a_case() -> None:
    assert missing(set(ChatRequest.__struct_fields__), CHAT) == set()
    assert missing(set(CompletionRequest.__struct_fields__), COMPLETIONS) == set()


@pytest.mark.parametrize("route", CONTRACT)
def test_every_field_of_the_contract_has_a_case(route: str) -> None:
    assert missing(set(CONTRACT[route].split()), route) == set()


def test_tests_that_are_named_exist() -> None:
    assert [one.elsewhere for one in CASES if not (ROOT / (one.elsewhere or "")).exists()] == []


def page() -> Iterator[str]:
    yield "# The API, field by field"
    yield (
        "Written by `make docs` from the cases in `tests/support/conformance*.py`, which\n"
        "`tests/conformance/test_conformance.py` runs. A field may always be null, which is as if "
        "it were\nabsent. A refusal is a 400 whose `param` names the field. `GET /openapi.json` "
        "has the same bounds\nas JSON schemas."
    )
    yield "## Routes"
    rows = [f"| `{' '.join(one.methods)} {one.path}` | {one.summary} |" for one in SERVED]
    yield "\n".join(["| route | |", "|---|---|", *rows])
    for title, cases in SECTIONS.items():
        yield f"## {title}"
        yield table(cases)


def test_the_page_is_what_the_cases_say() -> None:
    text = "\n\n".join(page()) + "\n"
    if os.environ.get("OCTAVO_TEST_WRITE_DOCS"):
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text
