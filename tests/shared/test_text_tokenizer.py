from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from front_tokenizers import BOS, EOS, byte_fallback_folder, byte_level_folder, load_byte_level

from octavo.shared.errors import ConfigError, InvalidRequest
from octavo.shared.text.tokenizer import Tokenizer

TEXTS = ["Hello world", " two  spaces ", "äöü 你好 😀", "", "line\nline\ttab", "\x00\x7f"]


@pytest.mark.parametrize("text", TEXTS)
def test_byte_level_round_trip(tmp_path: Path, text: str) -> None:
    tokenizer = load_byte_level(tmp_path)
    ids = tokenizer.encode(text)
    assert ids[0] == BOS
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<|bos|>" + text


@pytest.mark.parametrize("text", ["Hello world", "aä你b", "Hello 😀  b", " a"])
def test_byte_fallback_round_trip(tmp_path: Path, text: str) -> None:
    tokenizer = Tokenizer.load(byte_fallback_folder(tmp_path))
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_decode_agrees_with_the_library(tmp_path: Path) -> None:
    for make in (byte_level_folder, byte_fallback_folder):
        tokenizer = Tokenizer.load(make(tmp_path / make.__name__))
        for text in TEXTS:
            ids = tokenizer.encode(text)
            assert tokenizer.decode(ids) == tokenizer._backend.decode(ids)


def test_output_keeps_its_leading_space(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(byte_fallback_folder(tmp_path))
    [world] = [i for i in range(tokenizer.vocab_size) if tokenizer.id_to_token(i) == "▁world"]
    assert tokenizer.decode([world]) == "world"
    assert tokenizer.detokenizer().push(world) == " world"


def test_ids_outside_the_vocabulary_are_empty(tmp_path: Path) -> None:
    tokenizer = load_byte_level(tmp_path)
    assert tokenizer.id_to_bytes(10**6) == b""
    assert tokenizer.id_to_token(10**6) == ""
    assert tokenizer.decode([-1, 10**6]) == ""


def test_special_tokens(tmp_path: Path) -> None:
    tokenizer = load_byte_level(tmp_path)
    assert tokenizer.is_special(EOS) and not tokenizer.is_special(10)
    assert tokenizer.encode("a<|im_end|>", add_special_tokens=False)[-1] == EOS
    assert tokenizer.token_text(EOS) == "<|im_end|>"


@pytest.mark.parametrize(("flag", "has_bos"), [(None, True), (True, True), (False, False)])
def test_add_bos_token_of_the_config_rules(
    tmp_path: Path, flag: bool | None, has_bos: bool
) -> None:
    byte_level_folder(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"add_bos_token": flag}))
    ids = Tokenizer.load(tmp_path).encode("a")
    assert (ids[0] == BOS) is has_bos and ids.count(BOS) <= 1


def test_bos_is_added_where_the_file_forgets_it(tmp_path: Path) -> None:
    byte_fallback_folder(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps({"bos_token": "<s>", "add_bos_token": True}))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode("a")[0] == 1
    assert tokenizer.encode("a", add_special_tokens=False)[0] != 1


def test_chat_template(tmp_path: Path) -> None:
    tokenizer = load_byte_level(tmp_path)
    chat = [{"role": "user", "content": "Hi"}]
    text = tokenizer.render_chat(chat)
    assert text == "<|bos|><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.apply_chat_template(chat).count(BOS) == 1
    assert "LOUD" in tokenizer.render_chat(chat, shout=True)
    assert tokenizer.render_chat(chat, add_generation_prompt=False).endswith("<|im_end|>\n")


@pytest.mark.parametrize("trim", ["", "|trim"])
def test_continue_final_message(tmp_path: Path, trim: str) -> None:
    template = "{% for m in messages %}[{{ m.role }}]{{ m.content" + trim + " }}[end]{% endfor %}"
    tokenizer = Tokenizer.load(byte_level_folder(tmp_path, None), template)
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well, "}]
    text = tokenizer.render_chat(chat, continue_final_message=True)
    assert text == "[user]Hi[end][assistant]Well," + ("" if trim else " ")


def test_continue_needs_the_message_in_the_prompt(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(byte_level_folder(tmp_path), "nothing")
    with pytest.raises(InvalidRequest, match="continued"):
        tokenizer.render_chat([{"role": "user", "content": "x"}], continue_final_message=True)


def test_template_sources(tmp_path: Path) -> None:
    folder = byte_level_folder(tmp_path)
    chat = [{"role": "user", "content": "x"}]
    (folder / "chat_template.jinja").write_text("from file")
    assert Tokenizer.load(folder).render_chat(chat) == "from file"
    assert Tokenizer.load(folder, "override").render_chat(chat) == "override"
    (folder / "chat_template.jinja").unlink()
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert Tokenizer.load(folder).render_chat(chat) == "d"


def test_template_features(tmp_path: Path) -> None:
    template = (
        "{% generation %}{{ messages | tojson }}{% endgeneration %}"
        "{% for i in range(9) %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}"
        "{{ strftime_now('%Y') | length }}"
    )
    tokenizer = Tokenizer.load(byte_level_folder(tmp_path), template)
    text = tokenizer.render_chat([{"role": "user", "content": "<ä>"}])
    assert text == '[{"role": "user", "content": "<ä>"}]04'


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('my reason') }}",
        "{{ 1 / 0 }}",
        "{% for i in range(999999999) %}{% endfor %}",
    ],
)
def test_a_template_that_misbehaves_is_the_requests_error(tmp_path: Path, template: str) -> None:
    tokenizer = Tokenizer.load(byte_level_folder(tmp_path), template)
    with pytest.raises(InvalidRequest):
        tokenizer.render_chat([{"role": "user", "content": "x"}])


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no tokenizer\.json"):
        Tokenizer.load(tmp_path)
    folder = byte_level_folder(tmp_path)
    broken = Tokenizer.load(folder, "{% if %}")
    with pytest.raises(ConfigError, match="template"):
        broken.render_chat([{"role": "user", "content": "x"}])
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        Tokenizer.load(folder)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be read"):
        Tokenizer.load(folder)


def test_no_template_no_chat(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(byte_level_folder(tmp_path, None))
    assert tokenizer.chat_template is None
    with pytest.raises(InvalidRequest, match="no chat template"):
        tokenizer.render_chat([{"role": "user", "content": "x"}])


def test_the_frontend_imports_no_torch() -> None:
    code = (
        "import sys, octavo.services.frontend.__main__\n"
        "print([m for m in ('torch', 'transformers', 'triton') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def with_settings(folder: Path, **settings: object) -> Tokenizer:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return Tokenizer.load(folder)


def test_add_eos_token_of_the_config_rules(tmp_path: Path) -> None:
    """An embedder that pools the last token was trained to find this one there."""
    plain = load_byte_level(tmp_path)
    asked = with_settings(tmp_path, add_eos_token=True, eos_token="<|im_end|>")
    ids = plain.encode("Hello")
    assert asked.encode("Hello") == [*ids, EOS]
    assert asked.encode("Hello<|im_end|>") == [*ids, EOS]
    assert asked.encode("Hello", add_special_tokens=False) == ids[1:]
    assert asked.encode_text("Hello").ids == [*ids, EOS]
    never = with_settings(tmp_path, add_eos_token=False)
    assert never.encode("Hello") == ids


@pytest.mark.parametrize("cuts_left", [False, True])
def test_a_text_that_is_cut_keeps_its_ends(tmp_path: Path, cuts_left: bool) -> None:
    load_byte_level(tmp_path)
    tokenizer = with_settings(tmp_path, add_eos_token=True, eos_token="<|im_end|>")
    ids = tokenizer.encode("abcdefgh")
    for length in range(3, len(ids) + 3):
        cut = tokenizer.encode_text("abcdefgh", max_tokens=length, cuts_left=cuts_left).ids
        inner = length - 2
        kept = ids[1:-1][-inner:] if cuts_left else ids[1:-1][:inner]
        assert cut == [BOS, *kept, EOS]
    assert tokenizer.num_special(pair=False) >= 2
