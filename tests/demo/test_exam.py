from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from octavo.services.demo.exam import _message, main
from octavo.services.demo.questions import questions

EXPECTED = {json.dumps([_message(said) for said in q.messages]): q.expected for q in questions(0)}


class KnowsHalf(BaseHTTPRequestHandler):
    """Answers every subject right but facts; refuses a request without the key."""

    def do_GET(self) -> None:
        self._reply({"data": [{"id": "stub"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body["model"] == "stub" and body["temperature"] == 0
        answer = EXPECTED[json.dumps(body["messages"])]
        if "apital" in body["messages"][-1]["content"]:
            answer = "I do not know."
        self._reply({"choices": [{"message": {"content": answer}}]})

    def _reply(self, answer: object) -> None:
        data = json.dumps(answer).encode()
        self.send_response(200 if self.headers["Authorization"] == "Bearer k" else 401)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), KnowsHalf)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_exam_grades_a_server(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    options = ["--url", url, "--api-key", "k", "--concurrency", "4"]
    assert main([*options, "--threshold", "0.8", "--json", str(report)]) == 0
    assert "total" in capsys.readouterr().out
    result = json.loads(report.read_text())
    assert result["subjects"]["sums"] == 1.0
    assert result["subjects"]["facts"] < 1.0
    assert all(wrong["answer"] == "I do not know." for wrong in result["wrong"])
    assert main([*options, "--threshold", "1.0", "--limit", "100"]) == 1
