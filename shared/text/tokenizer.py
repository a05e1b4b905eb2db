"""Tokenizer: text to ids and back, over the `tokenizers` library alone.

Measured on the reference machine: importing transformers' AutoTokenizer takes 5 s and imports
torch, even with USE_TORCH=0; `tokenizers` takes 0.05 s. A model directory therefore needs a
tokenizer.json, which every supported family ships.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import tokenizers

from octavo.shared.errors import ConfigError, InvalidRequest
from octavo.shared.text.chat_template import ChatTemplate, Message
from octavo.shared.text.detokenizer import Detokenizer
from octavo.shared.text.pieces import PieceToBytes, codec_of
from octavo.shared.text.text_ids import TextIds, encode_pair

_SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")


class _TokenizerFile(msgspec.Struct):
    """The one part of tokenizer.json that the library does not show."""

    decoder: dict[str, Any] | None = None


class Tokenizer:
    """A vocabulary with its text codec and chat template. Safe to call from several threads."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        decoder: dict[str, Any] | None,
        special_tokens: Mapping[str, str],
        *,
        chat_template: str | None = None,
        add_bos_token: bool | None = None,
        add_eos_token: bool | None = None,
    ) -> None:
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._codec: PieceToBytes
        self._codec, self.dropped_spaces = codec_of(decoder)
        self.vocab_size = backend.get_vocab_size(with_added_tokens=True)
        added = backend.get_added_tokens_decoder()
        self.special_ids = frozenset(i for i, token in added.items() if token.special)
        self._bytes: dict[int, bytes] = {}
        self.special_tokens = dict(special_tokens)
        """By the names that chat templates know."""
        self.chat_template = chat_template
        bos, eos = special_tokens.get("bos_token"), special_tokens.get("eos_token")
        self._bos_id = None if bos is None else backend.token_to_id(bos)
        self._eos_id = None if eos is None or not add_eos_token else backend.token_to_id(eos)
        self._add_bos_token = add_bos_token

    @classmethod
    def load(cls, path: str | Path, chat_template: str | None = None) -> Tokenizer:
        """From a model directory. `chat_template`: text that replaces the model's own template."""
        folder = Path(path)
        if not (folder / "tokenizer.json").is_file():
            raise ConfigError(f"{folder} has no tokenizer.json.")
        data = (folder / "tokenizer.json").read_bytes()
        config = _read_json(folder / "tokenizer_config.json")
        try:
            backend = tokenizers.Tokenizer.from_buffer(data)
            decoder = msgspec.json.decode(data, type=_TokenizerFile).decoder
        except Exception as error:  # the library raises bare Exception
            raise ConfigError(f"{folder / 'tokenizer.json'} cannot be read: {error}") from error
        return cls(
            backend,
            decoder,
            _special_tokens(_read_json(folder / "special_tokens_map.json") | config),
            chat_template=chat_template or _own_template(folder, config),
            add_bos_token=config.get("add_bos_token"),
            add_eos_token=config.get("add_eos_token"),
        )

    @cached_property
    def _template(self) -> ChatTemplate | None:
        """Compiled where it is used: a stranger's template can make that take for ever."""
        if self.chat_template is None:
            return None
        return ChatTemplate(self.chat_template, self.special_tokens)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Ids of a text; special tokens written out in it become their ids."""
        # As a batch of one: twice as fast, for offsets are left out, and a text of megabytes does
        # not hold the GIL, and with it every stream, for seconds.
        ids: list[int] = self._backend.encode_batch_fast(
            [text], add_special_tokens=add_special_tokens
        )[0].ids
        return self._with_ends(ids) if add_special_tokens else ids

    def encode_text(
        self,
        text: str,
        pair: str | None = None,
        *,
        add_special_tokens: bool = True,
        max_tokens: int | None = None,
        cuts_left: bool = False,
    ) -> TextIds:
        """A text, or two in one, as pooling models read them: whole, or cut to `max_tokens` with
        its special tokens kept."""

        def encode(limit: int | None) -> TextIds:
            found = encode_pair(
                self._backend,
                text,
                pair,
                add_special_tokens=add_special_tokens,
                max_tokens=limit,
                cuts_left=cuts_left,
            )
            if pair is not None or not add_special_tokens:
                return found
            return TextIds(self._with_ends(found.ids))

        if pair is None and max_tokens is None:
            return TextIds(self.encode(text, add_special_tokens))
        found = encode(max_tokens)
        if max_tokens is None or (over := len(found.ids) - max_tokens) <= 0:
            return found
        return encode(max_tokens - over)

    def num_special(self, *, pair: bool) -> int:
        """At most so many special tokens come with a text, or with a pair of them."""
        own = int(self._backend.num_special_tokens_to_add(pair))
        return own + bool(self._add_bos_token) + (self._eos_id is not None)

    def _with_ends(self, ids: list[int]) -> list[int]:
        """With BOS and EOS as tokenizer_config.json wants them, where it says anything."""
        ids = self._with_bos(ids)
        if self._eos_id is None or ids[-1:] == [self._eos_id]:
            return ids
        return [*ids, self._eos_id]

    def _with_bos(self, ids: list[int]) -> list[int]:
        if self._add_bos_token is None or self._bos_id is None:
            return ids
        has_bos = ids[:1] == [self._bos_id]
        if self._add_bos_token and not has_bos:
            return [self._bos_id, *ids]
        return ids if self._add_bos_token else ids[1:] if has_bos else ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of a whole sequence; bytes that are no UTF-8 become U+FFFD."""
        kept = ids
        if skip_special_tokens:
            kept = [i for i in ids if i not in self.special_ids]
        text = b"".join(map(self.id_to_bytes, kept)).decode("utf-8", "replace")
        spaces = min(self.dropped_spaces, len(text) - len(text.lstrip(" ")))
        return text[spaces:]

    def detokenizer(
        self, skip_special_tokens: bool = True, visible: frozenset[int] = frozenset()
    ) -> Detokenizer:
        """A fresh incremental decoder of what follows a prompt; `visible`: special tokens that
        are not skipped."""
        skipped = self.special_ids - visible if skip_special_tokens else ()
        return Detokenizer(self.id_to_bytes, skipped)

    def special_texts(self) -> frozenset[str]:
        return frozenset(map(self.token_text, self.special_ids))

    def render_chat(self, messages: Sequence[Message], /, **options: Any) -> str:
        """The prompt's text; `options` as in `ChatTemplate.render`.

        In this process, without limits: the server has a helper for it (`services/templates`).
        """
        if self._template is None:
            raise InvalidRequest("This model has no chat template.", param="messages")
        return self._template.render(messages, options)

    def apply_chat_template(self, messages: Sequence[Message], **options: Any) -> list[int]:
        """The prompt's ids. The template writes the special tokens, so encoding adds none."""
        return self.encode(self.render_chat(messages, **options), add_special_tokens=False)

    def id_to_bytes(self, token_id: int) -> bytes:
        """The bytes one token stands for; none for an id outside the vocabulary."""
        known = self._bytes.get(token_id)
        if known is None:
            piece = self._backend.id_to_token(token_id) if token_id >= 0 else None
            known = self._bytes[token_id] = b"" if piece is None else self._codec(piece)
        return known

    def vocabulary(self, size: int) -> list[bytes]:
        """The bytes of the ids 0 to size - 1, not remembered: for use at a start."""
        tokens = [b""] * size
        for piece, token_id in self._backend.get_vocab(with_added_tokens=True).items():
            if token_id < size:
                tokens[token_id] = self._codec(piece)
        return tokens

    def token_text(self, token_id: int) -> str:
        """One token for a reader, as logprobs show it."""
        return self.id_to_bytes(token_id).decode("utf-8", "replace")

    def id_to_token(self, token_id: int) -> str:
        """The vocabulary's own string for an id; empty for one outside it."""
        return self._backend.id_to_token(token_id) or ""

    def is_special(self, token_id: int) -> bool:
        return token_id in self.special_ids


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """A token is a text, or an object with one; what is neither is none."""
    found = {name: config.get(name) for name in _SPECIAL_NAMES}
    texts = {name: t.get("content") if isinstance(t, dict) else t for name, t in found.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _own_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """chat_template.jinja, else tokenizer_config.json: a text, or a list of named ones."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} cannot be read: {error}") from error
    template = config.get("chat_template")
    if isinstance(template, list):
        entries = [entry for entry in template if isinstance(entry, dict)]
        named = {str(entry.get("name")): entry.get("template") for entry in entries}
        template = named.get("default")
    return template if isinstance(template, str) else None
