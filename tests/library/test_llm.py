"""LLM over a fake engine: prompts, outputs, deaths, interrupts."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import house_fake_child
import house_fake_engine
import pytest
from house_fake_engine import CRASH, FAIL, FOREVER
from house_models import write_json, write_model
from house_supervisor import alive

from octavo.llm import LLM, Logprob, RequestOutput, SamplingParams
from octavo.llm.prompts import Prompt, PromptForm, read_prompts
from octavo.shared.errors import ConfigError, ContextTooLong, EngineDead, InvalidRequest, StartError


def fake_engine(role: str) -> list[str]:
    return [sys.executable, "-P", house_fake_engine.__file__]


def fake_child(role: str) -> list[str]:
    return [sys.executable, "-P", house_fake_child.__file__]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_model(tmp_path_factory.mktemp("model") / "m")
    write_json(path / "generation_config.json", {"top_k": 5, "temperature": 0.5})
    return path


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("log") / "engine.log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCTAVO_TEST_LOG", str(path))
        yield path


@pytest.fixture(scope="module")
def llm(directory: Path, log: Path) -> Iterator[LLM]:
    with LLM(str(directory), device="cpu", _command=fake_engine) as running:
        yield running


def params(**values: object) -> SamplingParams:
    return SamplingParams(**{"temperature": 0.0, **values})  # type: ignore[arg-type]


def pids(llm: LLM) -> list[int]:
    return [child.process.pid for child in llm._engine._group.children]


def ids(outputs: list[RequestOutput]) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in outputs]


def test_every_form_of_prompt(llm: LLM) -> None:
    a = llm.get_tokenizer().encode("a")[0]
    forms: list[PromptForm] = ["xa", {"prompt": "xa"}, {"prompt_token_ids": [5, a]}, [9, a]]
    outputs = llm.generate(forms, params(max_tokens=3), use_tqdm=False)
    assert ids(outputs) == [[a + 1, a + 2, a + 3]] * 4
    assert [output.prompt for output in outputs] == ["xa", "xa", None, None]
    first = outputs[0]
    assert (first.finished, first.num_cached_tokens) == (True, 3)
    assert (first.outputs[0].text, first.outputs[0].finish_reason) == ("bcd", "length")
    for one in ("xa", [9, a], {"prompt_token_ids": [5, a]}):
        assert ids(llm.generate(one, params(max_tokens=3), use_tqdm=False)) == [
            [a + 1, a + 2, a + 3]
        ]
    assert llm.generate([], params()) == []


def test_n_and_seeds(llm: LLM, log: Path) -> None:
    log.write_text("")
    (output,) = llm.generate("a", params(n=3, seed=7, max_tokens=2), use_tqdm=False)
    assert [done.index for done in output.outputs] == [0, 1, 2]
    seeds = [int(line.split()[1]) for line in log.read_text().splitlines()]
    assert seeds == [params(seed=7).for_choice(i).seed for i in range(3)]
    assert len(set(seeds)) == 3 and seeds[0] == 7


def test_parameters_and_priorities_for_each_prompt(llm: LLM, log: Path) -> None:
    log.write_text("")
    each = [params(max_tokens=1, seed=1), params(max_tokens=2, seed=2)]
    assert [len(t) for t in ids(llm.generate(["a", "b"], each, priority=[4, 5]))] == [1, 2]
    assert log.read_text().splitlines() == ["submit 1 4 1", "submit 2 5 2"]
    with pytest.raises(InvalidRequest, match="2 entries for 1 prompts"):
        llm.generate(["a"], each)


def test_logprobs(llm: LLM) -> None:
    (output,) = llm.generate([[1, 2, 3]], params(max_tokens=2, logprobs=2, prompt_logprobs=0))
    done, text = output.outputs[0], llm.get_tokenizer().token_text
    assert done.cumulative_logprob == -3.0
    assert done.logprobs is not None and len(done.logprobs) == 2
    assert done.logprobs[0] == {4: Logprob(-1.5, 2, text(4)), 7: Logprob(-0.5, 1, text(7))}
    assert output.prompt_logprobs == [
        None,
        {2: Logprob(-1.5, 2, text(2))},
        {3: Logprob(-1.5, 2, text(3))},
    ]
    (output,) = llm.generate([[1, 2, 3]], params(max_tokens=2))
    assert (output.prompt_logprobs, output.outputs[0].logprobs) == (None, None)


def test_stops(llm: LLM) -> None:
    a = llm.get_tokenizer().encode("a")[0]
    (by_id,) = llm.generate("a", params(max_tokens=9, stop_token_ids=[a + 3]))
    assert (by_id.outputs[0].finish_reason, by_id.outputs[0].stop_reason) == ("stop", a + 3)
    (by_text,) = llm.generate("a", params(max_tokens=9, stop=["de"]))
    assert by_text.outputs[0].text == "bc"
    assert (by_text.outputs[0].finish_reason, by_text.outputs[0].stop_reason) == ("stop", "de")


def test_a_stop_string_ends_it_in_the_engine_too(llm: LLM, log: Path) -> None:
    log.write_text("")
    (output,) = llm.generate([[FOREVER, 97 - 33]], params(max_tokens=9, stop=["c"]))
    assert output.outputs[0].finish_reason == "stop"
    llm.generate("a", params(max_tokens=1))
    assert "aborted" in log.read_text()


def test_a_failed_request_leaves_the_others_alone(llm: LLM) -> None:
    bad, good = llm.generate([[FAIL, 1], [1, 2]], params(max_tokens=1))
    assert (bad.outputs[0].finish_reason, bad.outputs[0].stop_reason) == ("error", "too_long")
    assert good.outputs[0].token_ids == [3]


def test_chat(llm: LLM) -> None:
    talk = [{"role": "user", "content": "hi"}]
    one = llm.chat(talk, params(max_tokens=1))
    assert [output.prompt for output in one] == ["u:hi\na:"]
    two = llm.chat([talk, talk], params(max_tokens=1), add_generation_prompt=False)
    assert [output.prompt for output in two] == ["u:hi\n"] * 2


def test_chat_content_in_parts(llm: LLM) -> None:
    parts = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
    (output,) = llm.chat([{"role": "user", "content": parts}], params(max_tokens=1))
    assert output.prompt == "u:h\ni\na:"
    with pytest.raises(InvalidRequest, match="type text"):
        llm.chat([{"role": "user", "content": [{"type": "image_url"}]}], params(max_tokens=1))


def test_the_context_bounds_the_output(llm: LLM, log: Path) -> None:
    log.write_text("")
    llm.generate([[1] * 120], params(max_tokens=None, seed=1))
    llm.generate([[1] * 120], params(max_tokens=100, seed=1))
    assert log.read_text().splitlines() == ["submit 1 0 8"] * 2
    with pytest.raises(ContextTooLong, match=r"128 tokens, .* it is 1 too long"):
        llm.generate([[1] * 128], params())


@pytest.mark.parametrize("prompt", [[""], [[999, 1]], [{"text": "a"}], [{"prompt": [1]}], [b"a"]])
def test_bad_prompts(llm: LLM, prompt: list[object]) -> None:
    with pytest.raises(InvalidRequest):
        llm.generate(prompt, params())  # type: ignore[arg-type]


def test_defaults_come_from_the_model(llm: LLM) -> None:
    assert llm.get_default_sampling_params() == SamplingParams(top_k=5, temperature=0.5)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "hot"}, r"Expected `float`, got `str` - at `\$.temperature`"),
        ({"top_k": 1.5}, r"top_k"),
        ({"stop": [3]}, r"stop"),
        ({"stop": ["\ud800"]}, "surrogates"),
        ({"seed": 2**70}, "ints < -2"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
    ],
)
def test_bad_parameters(llm: LLM, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        llm.generate("a", params(**wrong))


def test_short_forms_of_parameters(llm: LLM) -> None:
    short: dict[str, Any] = {"stop": "de", "stop_token_ids": None, "logit_bias": None}
    (output,) = llm.generate("a", params(max_tokens=9, **short))
    assert (output.outputs[0].text, output.outputs[0].stop_reason) == ("bc", "de")
    assert llm.generate("a", params(max_tokens=2, stop=None))[0].outputs[0].text == "bc"


def test_a_crash_raises_and_stays_raised(directory: Path) -> None:
    llm = LLM(str(directory), device="cpu", _command=fake_engine)
    running = pids(llm)
    with pytest.raises(EngineDead, match="scheduler-0 was killed by SIGKILL"):
        llm.generate([[1, 2], [CRASH, 1]], params(max_tokens=5))
    assert not any(alive(pid) for pid in running)
    with pytest.raises(EngineDead):
        llm.generate("a", params())
    llm.close()


def test_a_worker_that_dies_while_we_wait(directory: Path) -> None:
    with LLM(str(directory), device="cpu", _command=fake_engine) as llm:
        worker = llm._engine._group.children[1]
        threading.Timer(0.2, worker.process.kill).start()
        with pytest.raises(EngineDead, match="worker-0 was killed by SIGKILL"):
            llm.generate([[FOREVER, 1]], params(max_tokens=2))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell's background job starts with SIGINT ignored, and Python then leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_aborts_and_the_engine_goes_on(directory: Path) -> None:
    with LLM(str(directory), device="cpu", _command=fake_engine) as llm:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            llm.generate([[FOREVER, 1]], params(max_tokens=2))
        assert ids(llm.generate([[1, 2]], params(max_tokens=1))) == [[3]]


def test_closing_stops_the_processes(directory: Path) -> None:
    llm = LLM(str(directory), device="cpu", _command=fake_engine)
    running = pids(llm)
    llm.close()
    llm.close()
    assert not any(alive(pid) for pid in running)
    with pytest.raises(EngineDead, match="it was closed"):
        llm.generate("a", params())


def test_the_engine_outlives_the_thread_that_made_it(directory: Path) -> None:
    made: list[LLM] = []
    thread = threading.Thread(
        target=lambda: made.append(LLM(str(directory), device="cpu", _command=fake_engine))
    )
    thread.start()
    thread.join()
    time.sleep(0.2)
    with made[0] as llm:
        assert ids(llm.generate([[1, 2]], params(max_tokens=1))) == [[3]]


@pytest.mark.parametrize(
    ("behaviour", "error", "says"),
    [
        ("refuse", ConfigError, "the model needs 16.1 GiB"),
        ("break", StartError, "worker-0 failed: .*a bug of ours"),
        ("die", StartError, "worker-0 was killed by SIGKILL while starting"),
    ],
)
def test_a_failed_start_raises_the_cause(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    behaviour: str,
    error: type[Exception],
    says: str,
) -> None:
    monkeypatch.setenv("OCTAVO_TEST_FAKE", f'{{"worker-0": "{behaviour}"}}')
    with pytest.raises(error, match=f"(?s){says}"):
        LLM(str(directory), device="cpu", _command=fake_child)


def test_bad_arguments(directory: Path) -> None:
    with pytest.raises(ConfigError, match="unknown argument max_modellen; did you mean max_model"):
        LLM(str(directory), max_modellen=5)
    with pytest.raises(ConfigError, match="max_model_len 999 is more than"):
        LLM(str(directory), device="cpu", max_model_len=999)


def test_one_string_is_one_prompt(llm: LLM) -> None:
    tokenizer = llm.get_tokenizer()
    assert read_prompts("ab", tokenizer) == [Prompt("ab", tokenizer.encode("ab"))]
    assert read_prompts([[1], [2]], tokenizer) == [Prompt(None, [1]), Prompt(None, [2])]
