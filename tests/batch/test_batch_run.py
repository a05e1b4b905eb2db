"""A batch's run over a server that is a function."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from octavo.services.batch import client
from octavo.services.batch.answers import AnswerFile
from octavo.services.batch.client import Address
from octavo.services.batch.command import parse, run_batch
from octavo.services.batch.jobs import read_jobs, survey
from octavo.services.batch.run import Watch, run_jobs, still_to_do
from octavo.services.batch.tally import Lines, Tally
from octavo.services.supervisor.signals import StopRequested
from octavo.shared.errors import ConfigError

Handler = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]


class Answers(Address):
    """An address where `handler` answers."""

    handler: Handler

    def connect(self, connections: int) -> httpx.AsyncClient:
        transport = httpx.MockTransport(self.handler)
        return httpx.AsyncClient(base_url=self.url, transport=transport)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LONGEST_WAIT", 0.0)


def line(name: str, url: str = "/v1/chat/completions", **body: Any) -> str:
    return json.dumps({"custom_id": name, "method": "POST", "url": url, "body": body})


def run(
    folder: Path, handler: Handler, *, concurrency: int = 4, stop_after: int | None = None
) -> tuple[Tally, str | None]:
    """One run over folder/in and folder/out; `stop_after`: answers after which it is stopped."""
    total, names = survey(folder / "in")
    answers = AnswerFile(folder / "out")
    tally = Tally(total, len(names & answers.done))
    read, write = os.pipe()

    async def watched(request: httpx.Request) -> httpx.Response:
        if tally.answered == stop_after:
            os.write(write, b"!")
            await asyncio.sleep(60)
        return await handler(request)

    def check() -> None:
        raise StopRequested

    async def main() -> str | None:
        address = Answers("http://x")
        object.__setattr__(address, "handler", watched)
        jobs = still_to_do(read_jobs(folder / "in"), answers.done)
        return await run_jobs(jobs, address, Watch(read, check), answers, tally, concurrency)

    try:
        return tally, asyncio.run(main())
    finally:
        answers.close()
        os.close(read)
        os.close(write)


def answers_in(folder: Path) -> dict[str | None, Any]:
    lines = (folder / "out").read_text().splitlines()
    found = {answer["custom_id"]: answer for answer in map(json.loads, lines)}
    assert len(found) == len(lines)
    return found


async def echo(request: httpx.Request) -> httpx.Response:
    body = json.loads(request.content)
    status = body.get("status", 200)
    return httpx.Response(status, json={"path": request.url.path, "body": body})


def test_every_kind_of_line_is_answered(tmp_path: Path) -> None:
    lines = [line("a", n=1), line("b", "/v1/embeddings"), line("c", status=400), "{bad"]
    (tmp_path / "in").write_text("\n".join(lines))
    tally, trouble = run(tmp_path, echo)
    found = answers_in(tmp_path)
    assert trouble is None and not tally.complete
    assert (tally.answered, tally.failed) == (2, 2)
    assert found["a"]["response"]["body"] == {"path": "/v1/chat/completions", "body": {"n": 1}}
    assert found["b"]["response"]["body"]["path"] == "/v1/embeddings"
    assert found["c"]["response"]["status_code"] == 400 and found["c"]["error"] is None
    assert found[None]["response"] is None and found[None]["error"]["code"] == "invalid_request"
    assert all(one["id"].startswith("batch_req_") for one in found.values())
    assert tally.summary().startswith("2 of 4 requests answered (2 now in ")


def test_a_second_run_asks_only_for_what_failed(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("\n".join(line(name) for name in "abc"))
    asked: list[str] = []

    async def fails_for_b(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["x-request-id"])
        return httpx.Response(500 if len(asked) == 2 else 200, json={})

    run(tmp_path, fails_for_b, concurrency=1)
    assert len(asked) == 3
    tally, _ = run(tmp_path, fails_for_b, concurrency=1)
    assert len(asked) == 4 and tally.complete and tally.before == 2
    assert set(answers_in(tmp_path)) == set("abc")


def test_a_stopped_run_is_continued(tmp_path: Path) -> None:
    names = {f"r{i}" for i in range(20)}
    (tmp_path / "in").write_text("\n".join(line(name) for name in names))
    tally, trouble = run(tmp_path, echo, stop_after=7)
    assert trouble == "stopped" and 7 <= tally.answered < 20
    assert len(answers_in(tmp_path)) == tally.answered
    tally, trouble = run(tmp_path, echo)
    assert trouble is None and tally.complete and tally.answered < 14
    assert set(answers_in(tmp_path)) == names


def test_so_many_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("\n".join(line(str(i)) for i in range(12)))
    running, most = 0, 0

    async def counts(request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return httpx.Response(200, json={})

    run(tmp_path, counts, concurrency=3)
    assert most == 3


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "in").write_text(line("a"))
    statuses = [503, 429, 200]

    async def busy(request: httpx.Request) -> httpx.Response:
        headers = {"Retry-After": "0"}
        return httpx.Response(statuses.pop(0), json={}, headers=headers)

    tally, _ = run(tmp_path, busy)
    assert tally.complete and statuses == []


def test_what_is_said_to_be_hopeless_is_not_asked_again(tmp_path: Path) -> None:
    (tmp_path / "in").write_text(line("a"))
    statuses = [503]

    async def full(request: httpx.Request) -> httpx.Response:
        return httpx.Response(statuses.pop(0), json={}, headers={"X-Should-Retry": "false"})

    tally, _ = run(tmp_path, full)
    assert tally.failed == 1 and statuses == []


def test_a_server_that_is_gone_ends_the_run_without_failures(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("\n".join(line(name) for name in "abc"))
    calls = 0

    async def dies(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise httpx.ConnectError("gone")
        return httpx.Response(200, json={})

    tally, trouble = run(tmp_path, dies, concurrency=1)
    assert trouble is not None and "cannot be reached" in trouble
    assert (tally.answered, tally.failed) == (1, 0) and calls == 1 + client.TRIES


def test_an_answer_that_is_no_json_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").write_text(line("a"))

    async def html(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="<html>")

    run(tmp_path, html)
    assert answers_in(tmp_path)["a"]["error"]["code"] == "invalid_response"


def test_a_run_without_a_terminal_tells_in_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    caplog.set_level("INFO")
    tally = Tally(total=50, before=10, started=100.0)
    report = Lines(tally)
    for seconds in (5.0, 9.0, 10.0, 12.0, 20.0):
        clock[0] = 100.0 + seconds
        tally.answered += 2
        report()
    assert caplog.messages == ["16 of 50 requests, 0.6 a second", "20 of 50 requests, 0.5 a second"]


def test_a_key_is_shown() -> None:
    async def main() -> None:
        async with Address("http://x", key="k").connect(1) as http:
            assert http.headers["authorization"] == "Bearer k"

    asyncio.run(main())


def test_arguments_are_ours_or_the_servers() -> None:
    own, rest = parse(["-i", "a", "demo", "-o", "b", "--concurrency", "3", "--max-num-seqs", "4"])
    assert (own.input_file, own.output_file, own.concurrency) == (Path("a"), Path("b"), 3)
    assert rest == ["demo", "--max-num-seqs", "4"]


@pytest.mark.parametrize(
    "argv", [[], ["-i", "a"], ["-i", "a", "-o", "b", "--concurrency", "0"], ["--url", "ftp://x"]]
)
def test_bad_arguments(argv: list[str]) -> None:
    with pytest.raises(ConfigError):
        parse(argv if "--url" not in argv else ["-i", "a", "-o", "b", *argv])


def test_the_input_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in"
    path.write_text(line("a"))
    assert run_batch(["-i", str(path), "-o", str(path)], {}) == 2
    assert "the output file is the input file" in capsys.readouterr().err
    assert path.read_text() == line("a")


def test_nothing_to_do_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").write_text(line("a"))
    run(tmp_path, echo)
    files = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    assert run_batch([*files, "/no/such/model"], {}) == 0
    assert "1 of 1 requests answered (0 now in" in capsys.readouterr().out
