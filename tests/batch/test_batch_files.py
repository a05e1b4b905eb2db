"""The batch's input and output files: bad lines, duplicates, and what a killed run leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.services.batch.answers import Answer, AnswerError, AnswerFile, AnswerResponse
from octavo.services.batch.jobs import parse_job, read_jobs, survey
from octavo.shared.errors import ConfigError, ResourceBusy

GOOD: dict[str, Any] = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"messages": []},
}


def answered(custom_id: str | None, status: int = 200) -> Answer:
    response = AnswerResponse(status_code=status, request_id="r", body={"x": 1.5})
    return Answer(id=f"batch_req_{custom_id}", custom_id=custom_id, response=response)


def refused(custom_id: str | None) -> Answer:
    error = AnswerError(code="invalid_request", message="m")
    return Answer(id="batch_req_1", custom_id=custom_id, error=error)


def write(path: Path, *answers: Answer) -> None:
    file = AnswerFile(path)
    for one in answers:
        file.add(one)
    file.close()


def ids_in(path: Path) -> list[str | None]:
    return [json.loads(line)["custom_id"] for line in path.read_bytes().splitlines()]


def test_a_good_line_is_sent_as_it_stands() -> None:
    job = parse_job(json.dumps(GOOD).encode())
    assert (job.custom_id, job.url, job.problem) == ("a", GOOD["url"], None)
    assert json.loads(job.body) == GOOD["body"]


@pytest.mark.parametrize(
    ("line", "custom_id"),
    [
        (b"{", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
        (b"[]", None),
        (json.dumps(GOOD | {"url": "/v1/models"}).encode(), "a"),
        (json.dumps(GOOD | {"method": "GET"}).encode(), "a"),
        (json.dumps(GOOD | {"body": "x"}).encode(), "a"),
        (json.dumps(GOOD | {"body": {"stream": True}}).encode(), "a"),
        (json.dumps(GOOD | {"custom_id": ""}).encode(), None),
        (json.dumps(GOOD | {"custom_id": 3}).encode(), None),
    ],
)
def test_a_bad_line_has_a_problem_and_its_name_where_it_can_be_read(
    line: bytes, custom_id: str | None
) -> None:
    job = parse_job(line)
    assert job.problem and job.custom_id == custom_id


def test_empty_lines_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_text(f"\n{json.dumps(GOOD)}\n   \n{{\n")
    assert survey(path) == (2, {"a"})
    assert [job.custom_id for job in read_jobs(path)] == ["a", None]


def test_a_name_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "in"
    bad = json.dumps(GOOD | {"url": "nowhere"})
    path.write_text(f"{json.dumps(GOOD)}\n\n{bad}\n")
    with pytest.raises(ConfigError, match=r"in:3: custom_id 'a' stands in line 1 too"):
        survey(path)


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        survey(tmp_path / "nowhere")


def test_good_answers_are_kept_and_others_make_room(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write(path, answered("a"), answered("b", 400), refused("c"), refused(None), answered("d"))
    before = path.read_bytes().splitlines()
    file = AnswerFile(path)
    assert file.done == {"a", "d"}
    file.add(answered("b"))
    file.close()
    assert ids_in(path) == ["a", "d", "b"]
    assert path.read_bytes().splitlines()[:2] == [before[0], before[4]]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@given(cut=st.integers(min_value=0))
def test_wherever_a_run_was_killed_the_next_one_goes_on(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "out"
    write(path, *(answered(name) for name in "abc"))
    whole = path.read_bytes()
    at = cut % (len(whole) + 1)
    path.write_bytes(whole[:at])
    file = AnswerFile(path)
    assert len(file.done) == whole[:at].count(b"\n")
    for name in sorted(set("abc") - file.done):
        file.add(answered(name))
    file.close()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("text", ["hello\n", "hello", json.dumps(GOOD) + "\n", "{}\n"])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes"
    path.write_text(text)
    with pytest.raises(ConfigError, match="notes:1 is not an answer"):
        AnswerFile(path)
    assert path.read_text() == text


def test_two_runs_cannot_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write(path, answered("a", 500))
    first = AnswerFile(path)  # tidied: another file now has the name
    with pytest.raises(ResourceBusy, match="another run"):
        AnswerFile(path)
    first.close()
    AnswerFile(path).close()
