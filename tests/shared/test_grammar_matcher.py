"""What matchers allow: random walks by the mask, checked by independent readers."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import jsonschema
import numpy as np
import pytest
from grammar_hostile import COSTLY
from grammar_schemas import ALL, GROUPS, INT, closed
from grammar_walks import (
    EOS,
    PADDED,
    VOCAB,
    allowed,
    new_mask,
    new_matcher,
    padded_vocabulary,
    text_of,
    tokenizer,
    walk,
)

from octavo.shared.grammar.cache import GrammarCache, matcher_of
from octavo.shared.grammar.compiling import compile_grammar, vocabulary
from octavo.shared.grammar.json_schema import JsonOptions, schema_spec
from octavo.shared.grammar.matcher import MaskBatch, Matcher, mask_words
from octavo.shared.grammar.request import request_grammar
from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.text.tokenizer import Tokenizer

FORMATS = jsonschema.FormatChecker(["date", "email", "ipv4", "ipv6", "uuid"])
"""Those that jsonschema checks without further packages, and by the same rules."""
PERSON = closed({"name": {"type": "string"}, "age": INT}, "name", "age")
PERSON_TEXT = '{"name": "Ada \u00e9", "age": 36}'


def ids_of(text: str) -> list[int]:
    return tokenizer().encode(text, add_special_tokens=False)


def outputs(**fields: Any) -> GrammarSpec:
    spec = request_grammar(None, fields)
    assert spec is not None
    return spec


def accepts(spec: GrammarSpec, text: str) -> bool:
    matcher = new_matcher(spec)
    return matcher.accept(ids_of(text)) and matcher.is_accepting


def walked_text(spec: GrammarSpec, seed: int) -> str:
    matcher = new_matcher(spec)
    ids = walk(matcher, random.Random(seed), max_tokens=400, hurry_after=20)
    assert matcher.failed is None
    assert matcher.is_accepting
    return text_of(ids)


def check_schema(name: str, seeds: range) -> int:
    """Walk; what came to its end is valid. Returns how many did."""
    matcher, ended = new_matcher(schema_spec(ALL[name], "field")), 0
    validator = jsonschema.Draft202012Validator(ALL[name], format_checker=FORMATS)
    for seed in seeds:
        once = matcher.copy()
        ids = walk(once, random.Random(f"{name} {seed}"), max_tokens=400, hurry_after=40)
        assert once.failed is None
        if once.is_accepting:
            ended += 1
            validator.validate(json.loads(text_of(ids)))
    return ended


def check_group(group: str, seeds: range) -> None:
    names = [name for name in ALL if name.startswith(group)]
    ended = [check_schema(name, seeds) for name in names]
    assert sum(ended) > 0.8 * len(names) * len(seeds), "most walks come to an end"


@pytest.mark.parametrize("group", GROUPS)
def test_walks_are_valid(group: str) -> None:
    check_group(group, range(2))


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_many_walks_are_valid(group: str) -> None:
    check_group(group, range(2, 40))


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d{4}-\d{2}-\d{2}",
        r"(yes|no|maybe)( please)?",
        r"[a-z]{3,8}@[a-z]{2,6}\.(com|org)",
        r"(a+)+b",
        r"^abc$",
        r"\w{1,4}\s\d",
        r"a/b|\n\.",
        r"[äöüß ]{1,5}",
        r"-?(0|[1-9]\d{0,5})(\.\d{1,3})?",
        r"😀{2}x?",
    ],
)
def test_regex(pattern: str) -> None:
    for seed in range(5):
        text = walked_text(outputs(regex=pattern), seed)
        assert re.fullmatch(pattern, text)


CHOICES = [
    "red",
    "red wine",
    "green",
    'a "quoted"\tone',
    "line\nbreak",
    "日本 😀",
    "\\",
    "//x",
    "\x7f",
]


def test_choice() -> None:
    spec = outputs(choice=CHOICES)
    assert {walked_text(spec, seed) for seed in range(60)} <= set(CHOICES)
    assert all(accepts(spec, choice) for choice in CHOICES)
    assert not accepts(spec, "red wine ")
    assert not accepts(spec, "gree")


ARITHMETIC_LARK = """
start: sum
sum: product (/[+-]/ product)*
product: atom (/[*]/ atom)*
atom: /[0-9]{1,3}/ | "(" sum ")"
"""
ARITHMETIC_GBNF = """
root ::= sum
sum ::= product ([+-] product)*
product ::= atom ("*" atom)*
atom ::= [0-9]{1,3} | "(" sum ")"
"""


@pytest.mark.parametrize("grammar", [ARITHMETIC_LARK, ARITHMETIC_GBNF], ids=["lark", "gbnf"])
def test_grammar(grammar: str) -> None:
    spec = outputs(grammar=grammar)
    for seed in range(10):
        text = walked_text(spec, seed)
        assert re.fullmatch(r"[0-9+*()-]+", text)
        assert text.count("(") == text.count(")")
    assert accepts(spec, "(1+23)*4-(5)")
    assert not accepts(spec, "(1+23*4")


TAGS = {
    "structures": [
        {"begin": "<function=add>", "schema": closed({"a": INT}, "a"), "end": "</function>"},
        {"begin": "<function=now>", "schema": closed({}), "end": "</function>"},
    ],
    "triggers": ["<function="],
}


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("Just some < text > in tags.", True),
        ('Well: <function=add>{"a": 3}</function> Done.', True),
        ('<function=now>{}</function><function=add>{"a":1}</function>', True),
        ("<function=other>{}</function>", False),
        ('<function=add>{"a": "x"}</function>', False),
        ('<function=add>{"a": 3}', False),
        ("so <function= is what", False),
    ],
)
def test_structural_tags(text: str, fits: bool) -> None:
    assert accepts(outputs(structural_tag=TAGS), text) is fits
    form = request_grammar({"type": "structural_tag", **TAGS}, None)
    assert form == outputs(structural_tag=json.dumps(TAGS))


@pytest.mark.parametrize("structure", [{"begin": "<g>"}, {"begin": "<function=", "x": 1}])
def test_bad_structural_tags(structure: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="structural_tag"):
        outputs(structural_tag={"structures": [structure], "triggers": ["<function="]})


@pytest.mark.parametrize(
    ("whitespace", "text", "fits"),
    [
        (None, '{ "a" :\n\t1 }', True),
        (None, '{"a":1}', True),
        (None, ' {"a":1}', False),
        ("", '{"a":1}', True),
        ("", '{"a": 1}', False),
        (" ?", '{"a": 1 }', True),
        (" ?", '{"a":  1}', False),
    ],
)
def test_whitespace(whitespace: str | None, text: str, fits: bool) -> None:
    options = JsonOptions(whitespace=whitespace)
    assert accepts(schema_spec(closed({"a": INT}, "a"), "field", options), text) is fits


@pytest.mark.parametrize("name", ["users-1", "drawn-2", "drawn-5"])
def test_walks_without_whitespace(name: str) -> None:
    spec = schema_spec(ALL[name], "field", JsonOptions(whitespace=""))
    for seed in range(3):
        text = walked_text(spec, seed)
        value = json.loads(text)
        assert len(text) <= len(json.dumps(value, indent=1)) + text.count("\\u") * 6


def test_closed_objects_take_nothing_more() -> None:
    schema = {"type": "object", "properties": {"a": INT}}
    text = '{"a": 1, "b": 2}'
    assert accepts(outputs(json=schema), text)
    assert not accepts(outputs(json=schema, disable_additional_properties=True), text)


# --- the matcher's own promises ----------------------------------------------------------------


def mask_of(matcher: Matcher) -> list[int]:
    mask = new_mask()
    matcher.fill_mask(mask)
    return [int(i) for i in allowed(mask)]


def test_the_mask_says_what_is_accepted() -> None:
    matcher = new_matcher(outputs(regex="[ab]{2,3}c?"))
    for _ in range(4):
        permitted = set(mask_of(matcher))
        if matcher.is_stopped:
            break
        for token_id in range(0, VOCAB, 7):
            assert matcher.count_allowed([token_id]) == (token_id in permitted)
        assert matcher.accept([next(i for i in permitted if i not in EOS)])


def test_padding_and_special_tokens_are_never_allowed() -> None:
    mask = mask_of(new_matcher(outputs(regex=r"(.|\n)*")))
    assert set(mask) & {*range(VOCAB, PADDED), *range(PADDED, 32 * mask_words(PADDED))} == set()
    assert 1 not in mask, "<|im_start|>"
    assert set(EOS) <= set(mask)
    assert len(mask) > 0.95 * VOCAB


def test_eos_is_allowed_exactly_when_the_grammar_accepts() -> None:
    matcher = new_matcher(outputs(regex="ab*"))
    assert not set(EOS) & set(mask_of(matcher))
    assert matcher.accept(ids_of("a"))
    assert set(EOS) < set(mask_of(matcher))
    assert matcher.is_accepting and not matcher.is_stopped
    for eos in EOS:
        once = matcher.copy()
        assert once.accept([eos])
        assert once.is_stopped and once.failed is None
        assert once.rollback(1) and not once.is_stopped


def test_a_complete_grammar_stops_without_eos() -> None:
    matcher = new_matcher(schema_spec(PERSON, "field"))
    assert matcher.accept(ids_of(PERSON_TEXT))
    assert matcher.is_stopped and matcher.is_accepting and matcher.failed is None
    assert mask_of(matcher) == sorted(EOS)
    assert not matcher.accept(ids_of("x"))
    assert matcher.failed


def test_a_wrong_id_fails_the_matcher_for_good() -> None:
    matcher = new_matcher(outputs(regex="ab"))
    assert not matcher.accept(ids_of("b"))
    assert matcher.failed and matcher.is_stopped
    assert mask_of(matcher) == sorted(EOS), "the row's logits stay finite somewhere"
    assert not matcher.accept(ids_of("a"))


def test_state_is_a_function_of_the_accepted_ids() -> None:
    cache = GrammarCache(padded_vocabulary)
    spec, ids = schema_spec(PERSON, "field"), ids_of(PERSON_TEXT)
    straight = cache.matcher(spec)
    for count in range(len(ids)):
        replayed = cache.matcher(spec, ids[:count])
        assert mask_of(replayed) == mask_of(straight)
        wandered = cache.matcher(spec, ids[:-1])
        assert wandered.rollback(len(ids) - 1 - count)
        assert mask_of(wandered) == mask_of(straight)
        assert straight.accept([ids[count]])
    cache.close()


def test_copies_do_not_disturb_each_other() -> None:
    first = new_matcher(outputs(choice=["left", "right"]))
    second = first.copy()
    assert first.accept(ids_of("left"))
    assert second.accept(ids_of("right"))
    assert first.is_accepting and second.is_accepting


def test_forced_ids() -> None:
    matcher = new_matcher(outputs(regex="hello world"))
    forced = matcher.forced()
    assert forced and matcher.accept(forced)
    assert "hello world".startswith(text_of(forced))


def test_a_batch_is_its_rows() -> None:
    specs = [schema_spec(schema, "field") for schema in list(ALL.values())[:12]]
    matchers = [new_matcher(spec) for spec in specs]
    batch = MaskBatch(20, PADDED, threads=2)
    batch.fill([(19 - i, matcher) for i, matcher in enumerate(matchers)])
    for i, matcher in enumerate(matchers):
        assert allowed(batch.masks[19 - i]).tolist() == mask_of(matcher)
    assert (batch.masks[:8] == -1).all(), "rows without a matcher allow everything"
    choices = [(m, next(iter(mask_of(m)))) for m in matchers]
    assert batch.accept(choices) == [True] * 12
    batch.fill([(19, matchers[0])])
    assert allowed(batch.masks[19]).tolist() == mask_of(matchers[0])
    batch.release(19)
    assert (batch.masks[19] == -1).all()


def test_a_batch_checks_its_buffer() -> None:
    with pytest.raises(ValueError, match="int32"):
        MaskBatch(2, PADDED, 1, np.zeros((2, 3), np.int32))
    with pytest.raises(ValueError, match="contiguous"):
        MaskBatch(2, PADDED, 1, np.zeros((2, 2 * mask_words(PADDED)), np.int32)[:, ::2])
    batch = MaskBatch(2, PADDED, 1)
    with pytest.raises(ValueError, match="row"):
        batch.fill([(2, new_matcher(outputs(regex="a")))])
    batch.fill([])


@pytest.mark.parametrize("name", COSTLY)
def test_costly_grammars_stay_within_bounds(name: str) -> None:
    """A walk ends with a failed matcher at worst, never in an exception or a long mask."""
    matcher = new_matcher(outputs(**COSTLY[name]))
    walk(matcher, random.Random(1), max_tokens=60, hurry_after=60)
    assert matcher.failed is None or len(matcher.failed) < 500


def test_the_cache_compiles_once_and_keeps_within_its_bytes() -> None:
    cache = GrammarCache(padded_vocabulary, max_bytes=1 << 20)
    spec = outputs(regex="abc")
    first = cache.start(spec)
    assert cache.start(spec).result() is first.result()
    for number in range(50):
        cache.matcher(outputs(regex=f"x{number}"))
    assert cache.start(spec).result() is not first.result(), "it has been pushed out"
    cache.close()


def test_spaces_and_lone_bytes_of_other_tokenizers(tmp_path: Any) -> None:
    from front_tokenizers import byte_fallback_folder

    other = Tokenizer.load(byte_fallback_folder(tmp_path))
    known = vocabulary(other, other.vocab_size, [2])
    matcher = matcher_of(compile_grammar(outputs(regex="Hello world ?ä€"), known))
    pieces = ["Hello", "▁world", "▁", "ä", *(f"<0x{byte:02X}>" for byte in "€".encode())]
    known_ids = {other.id_to_token(i): i for i in range(other.vocab_size)}
    assert matcher.accept([known_ids[piece] for piece in pieces])
    assert matcher.is_stopped
