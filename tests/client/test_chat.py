"""`octavo chat` and `octavo complete` against a real server, and in a terminal."""

from __future__ import annotations

import io

import pytest
from octavo_server import Server
from terminal import terminal

from octavo.services.client.chat import Conversation
from octavo.services.launch import run


def test_quick(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--url", f"{server.url}/v1", "--temperature", "0"]
    assert run(["chat", "-q", "What is the capital of France?", "--stats", *where], {}) == 0
    said = capsys.readouterr()
    assert "Paris" in said.out and "[TTFT " in said.err and " tok/s, 15 + " in said.err
    assert run(["complete", "--quick", "The", "--max-tokens", "4", *where], {}) == 0
    assert capsys.readouterr().out.strip()


def test_errors_are_one_line(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["chat", "-q", "x", "--model-name", "none", "--url", server.url]
    assert run(asked, {}) == 1
    err = capsys.readouterr().err
    assert err.startswith("octavo: error: 404: The model `none`") and err.count("\n") == 1
    assert run(["chat", "--url", "localhost"], {}) == 2
    assert "must begin with http" in capsys.readouterr().err


def test_lines_of_a_file_are_a_conversation(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hi\n\n/reset\nhello\n/exit\nnever said\n"))
    assert run(["chat", "--url", server.url, "--temperature", "0"], {}) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 3 and out[1] == "begun anew" and out[0] and out[2]


def test_a_conversation_in_a_terminal(server: Server) -> None:
    with terminal("chat", "--port", str(server.port), "--temperature", "0", "--stats") as screen:
        screen.wait_for("> ")
        screen.type("What is the capital of France?\n")
        at = screen.wait_for("tok/s", screen.wait_for("Paris"))
        screen.type("/system You are terse.\n")
        at = screen.wait_for("begun anew, with it", at)
        screen.type("/nonsense\n")
        at = screen.wait_for("/help lists", at)
        screen.interrupt()
        screen.wait_for("(/exit or Ctrl-D leaves)", at)
        screen.type("/exit\n")
        assert screen.end() == 0


def test_interrupt_stops_the_answer_alone(server: Server) -> None:
    argv = ["complete", "--port", str(server.port), "--max-tokens", "1800", "--temperature", "1.5"]
    with terminal(*argv) as screen:
        at = screen.wait_for("> ")
        screen.type("Once upon a time\n")
        at = screen.wait_for("time", at)
        screen.wait_until(lambda: len(screen.text) > at + 40)
        screen.interrupt()
        at = screen.wait_for("[stopped]")
        server.wait_idle()
        screen.wait_for("> ", at)
        screen.type("\x04")
        assert screen.end() == 0


class Recorder:
    """In a Talker's place."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[list[dict[str, str]]] = []

    def ask(self, path: str, body: dict[str, list[dict[str, str]]]) -> str:
        self.asked.append(body["messages"])
        return self.answers.pop(0)

    def note(self, text: str) -> None:
        pass


def test_what_the_model_is_told() -> None:
    talker = Recorder("A", "", "C", "D")
    conversation = Conversation(talker, "S")  # type: ignore[arg-type]
    for line in ("a", "b", "c", "/system T", "d"):
        assert conversation.hear(line)
    told = [[message["content"] for message in messages] for messages in talker.asked]
    assert told == [["S", "a"], ["S", "a", "A", "b"], ["S", "a", "A", "c"], ["T", "d"]]
    assert not conversation.hear("/exit")
