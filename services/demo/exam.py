"""Ask a running server the held-out exam: `python -m octavo.services.demo.exam --url URL`."""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from octavo.services.demo.dialogue import Message, Question
from octavo.services.demo.grading import Score, right
from octavo.services.demo.questions import questions
from octavo.services.demo.tooling import called, read_calls

MAX_TOKENS = 200
TIMEOUT = 120.0


def ask(url: str, model: str, question: Question, key: str | None = None) -> str:
    """The server's greedy answer; urllib's errors pass through."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(said) for said in question.messages],
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
    }
    if question.tools:
        body["tools"] = list(question.tools)
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), _headers(key)
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        answer = json.load(response)
    said = answer["choices"][0]["message"]
    calls = [call["function"] for call in said.get("tool_calls") or []]
    content: str = said["content"] or ""
    return content + called([(call["name"], json.loads(call["arguments"])) for call in calls])


def _message(said: Message) -> dict[str, Any]:
    """As the API has it: calls in a field of their own."""
    calls = read_calls(said["content"]) if said["role"] == "assistant" else None
    if calls is None:
        return dict(said)
    functions = [{"name": name, "arguments": json.dumps(given)} for name, given in calls]
    return {"role": "assistant", "content": None, "tool_calls": [
        {"id": f"call_{i}", "type": "function", "function": function}
        for i, function in enumerate(functions)
    ]}  # fmt: skip


def served_model(url: str, key: str | None = None) -> str:
    """The name of the first model that the server lists."""
    request = urllib.request.Request(f"{url}/v1/models", headers=_headers(key))
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        name: str = json.load(response)["data"][0]["id"]
    return name


def examine(
    url: str, asked: Sequence[Question], *, concurrency: int = 16, key: str | None = None
) -> list[tuple[Question, str]]:
    """Every question with its answer, `concurrency` at a time, in the questions' order."""
    model = served_model(url, key)
    with ThreadPoolExecutor(concurrency) as pool:
        answers = list(pool.map(lambda question: ask(url, model, question, key), asked))
    return list(zip(asked, answers, strict=True))


def _headers(key: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    return headers | {"Authorization": f"Bearer {key}"} if key else headers


def _report(results: Sequence[tuple[Question, str]], score: Score) -> dict[str, object]:
    wrong = [
        {
            "subject": question.subject,
            "question": question.messages[-1]["content"],
            "expected": question.expected,
            "answer": answer,
        }
        for question, answer in results
        if not right(question, answer)
    ]
    return {"accuracy": score.accuracy, "subjects": score.by_subject(), "wrong": wrong}


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ask a running server the held-out exam.")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--api-key")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--limit", type=int, help="ask only the first N questions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the result and the wrong answers here")
    parser.add_argument("--threshold", type=float, default=0.0, help="exit 1 below this, in 0..1")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print accuracy by subject; 1 if the total is below the threshold."""
    options = _arguments(arguments)
    asked = questions(options.seed)[: options.limit]
    url = options.url.rstrip("/")
    results = examine(url, asked, concurrency=options.concurrency, key=options.api_key)
    score = Score((question, right(question, answer)) for question, answer in results)
    print(score.table())
    if options.json:
        options.json.write_text(json.dumps(_report(results, score), indent=1) + "\n")
    return int(score.accuracy < options.threshold)


if __name__ == "__main__":
    sys.exit(main())
