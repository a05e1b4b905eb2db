from __future__ import annotations

import itertools

import pytest
from front_tokenizers import EOS, load_byte_level
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.shared.messages import Finished, FinishReason, Logprobs, pack, pack_floats
from octavo.shared.sampling import SamplingParams
from octavo.shared.text.logprobs import LOWEST, TokenLogprob, unpack_logprobs
from octavo.shared.text.output import OutputAssembler
from octavo.shared.text.tokenizer import Tokenizer

steady = settings(deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_byte_level(tmp_path_factory.mktemp("tokenizer"))


def ended(reason: FinishReason = "length", stop_id: int | None = None) -> Finished:
    return Finished(request_id=b"", reason=reason, stop_id=stop_id)


def params(**fields: object) -> SamplingParams:
    return SamplingParams(eos_token_ids=[EOS], **fields)  # type: ignore[arg-type]


def assemble(
    tokenizer: Tokenizer, sampling: SamplingParams, chunks: list[list[int]], finished: Finished
) -> OutputAssembler:
    output = OutputAssembler(tokenizer, sampling)
    for i, chunk in enumerate(chunks):
        output.push(chunk, finished=finished if i == len(chunks) - 1 else None)
    return output


@steady
@given(data=st.data(), include=st.booleans(), min_tokens=st.integers(0, 6))
def test_any_chunking_gives_the_same(
    tokenizer: Tokenizer, data: st.DataObject, include: bool, min_tokens: int
) -> None:
    chunks = data.draw(st.lists(st.lists(st.integers(0, 319), max_size=4), min_size=1, max_size=12))
    stops = data.draw(st.lists(st.sampled_from(["l", "lo", "\ufffd", "the", "\ufffd\ufffd"])))
    sampling = params(stop=stops, include_stop_str_in_output=include, min_tokens=min_tokens)
    streamed = assemble(tokenizer, sampling, chunks, ended())
    whole = assemble(tokenizer, sampling, [list(itertools.chain(*chunks))], ended())
    for name in ("text", "token_ids", "offsets", "finish_reason", "stop_reason"):
        assert getattr(streamed, name) == getattr(whole, name), name


def test_deltas_add_up(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("Hello 😀 world", add_special_tokens=False)
    output = OutputAssembler(tokenizer, params())
    text = "".join(output.push([i]).text for i in ids)
    text += output.push([], finished=ended()).text
    assert text == output.text == "Hello 😀 world"
    assert output.finish_reason == "length" and output.stop_reason is None


def test_eos_is_counted_but_not_shown(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("one", add_special_tokens=False)
    sampling = params(skip_special_tokens=False)
    output = assemble(tokenizer, sampling, [[*ids, EOS]], ended("stop", EOS))
    assert output.text == "one"
    assert output.token_ids == [*ids, EOS]
    assert (output.finish_reason, output.stop_reason) == ("stop", None)


def test_stop_token_id_is_named_and_hidden(tokenizer: Tokenizer) -> None:
    [x] = tokenizer.encode("x", add_special_tokens=False)
    for include, text in ((False, ""), (True, "x")):
        sampling = params(stop_token_ids=[x], include_stop_str_in_output=include)
        output = assemble(tokenizer, sampling, [[x]], ended("stop", x))
        assert (output.text, output.finish_reason, output.stop_reason) == (text, "stop", x)


def test_a_stop_string_cuts_tokens_text_and_logprobs(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("one STOP two", add_special_tokens=False)
    entries = [TokenLogprob(i, -0.5, 1, ()) for i in ids]
    output = OutputAssembler(tokenizer, params(stop=["STOP"]))
    delta = output.push(ids, entries)
    assert delta.text == output.text == "one "
    assert (output.finish_reason, output.stop_reason) == ("stop", "STOP")
    assert len(output.token_ids) == len(output.logprobs) < len(ids)
    assert output.push(ids).token_ids == []


def test_what_was_held_back_comes_at_the_end(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("one ST", add_special_tokens=False)
    output = assemble(tokenizer, params(stop=["STOP"]), [ids], ended())
    assert output.text == "one ST"
    assert output.finish_reason == "length"


def test_stop_strings_wait_for_min_tokens(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("aXbXc", add_special_tokens=False)
    output = assemble(tokenizer, params(stop=["X"], min_tokens=2), [ids], ended())
    assert (output.text, output.stop_reason) == ("aXb", "X")


def test_offsets_point_into_the_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("Hello 😀 world", add_special_tokens=False)
    output = assemble(tokenizer, params(), [ids], ended())
    for token_id, offset in zip(output.token_ids, output.offsets, strict=True):
        piece = tokenizer.token_text(token_id)
        assert "\ufffd" in piece or output.text.startswith(piece, offset)


def test_unpack_logprobs() -> None:
    values = Logprobs(
        width=3,
        token_ids=pack([7, 1, 2, 8, 3, 4]),
        logprobs=pack_floats([-1.5, -0.5, float("-inf"), -2.0, -1.0, -1.25]),
        ranks=pack([9, 4]),
    )
    assert unpack_logprobs(values) == [
        TokenLogprob(7, -1.5, 9, ((1, -0.5), (2, LOWEST))),
        TokenLogprob(8, -2.0, 4, ((3, -1.0), (4, -1.25))),
    ]
