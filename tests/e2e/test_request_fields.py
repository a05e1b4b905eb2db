"""Request fields through real processes: what the engine makes of them."""

from __future__ import annotations

import json
from typing import Any

from octavo_server import Server

PROMPT = {"model": "demo", "prompt": "What is 12 + 30?", "temperature": 0, "max_tokens": 12}


def ask(server: Server, **fields: Any) -> dict[str, Any]:
    answer = server.post("/v1/completions", {**PROMPT, "return_token_ids": True, **fields})
    choice: dict[str, Any] = answer["choices"][0]
    return choice


def test_one_beam_is_greedy(server: Server) -> None:
    greedy = ask(server)
    beam = ask(server, use_beam_search=True, temperature=None)
    assert beam["token_ids"] == greedy["token_ids"]
    assert beam["finish_reason"] == greedy["finish_reason"]


def test_more_beams_are_no_worse(server: Server) -> None:
    def score(ids: list[int]) -> float:
        prompt = [5, 6, 7]
        entries = server.post(
            "/v1/completions",
            {"model": "demo", "prompt": [*prompt, *ids], "max_tokens": 1, "prompt_logprobs": 0},
        )["choices"][0]["prompt_logprobs"]
        return sum(
            float(entry[str(token_id)]["logprob"])
            for entry, token_id in zip(entries[len(prompt) :], ids, strict=True)
        )

    asked = {"prompt": [5, 6, 7], "max_tokens": 6, "ignore_eos": True}
    greedy = ask(server, **asked)
    beam = ask(server, **asked, use_beam_search=True, n=6)
    assert len(beam["token_ids"]) == 6
    assert score(beam["token_ids"]) >= score(greedy["token_ids"]) - 1e-3


def test_allowed_token_ids(server: Server) -> None:
    allowed = [40, 41, 42]
    choice = ask(server, allowed_token_ids=allowed, ignore_eos=True)
    assert set(choice["token_ids"]) <= set(allowed)


def test_bad_words(server: Server) -> None:
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": "What is 12 + 30?"}],
        "temperature": 0,
        "max_tokens": 20,
    }
    plain = server.post("/v1/chat/completions", body)["choices"][0]["message"]["content"]
    assert "42" in plain
    other = server.post("/v1/chat/completions", {**body, "bad_words": ["42"]})
    assert "42" not in other["choices"][0]["message"]["content"]


def test_repetition_ends_the_engines_work(server: Server) -> None:
    asked = {"max_pattern_size": 1, "min_count": 5}
    choice = ask(
        server,
        allowed_token_ids=[40],
        ignore_eos=True,
        max_tokens=1000,
        repetition_detection=asked,
    )
    assert (choice["finish_reason"], choice["token_ids"]) == ("repetition", [40] * 5)
    server.wait_idle()


def test_the_description_is_served(server: Server) -> None:
    status, data = server.request("GET", "/openapi.json")
    assert status == 200
    assert "/v1/chat/completions" in json.loads(data)["paths"]
