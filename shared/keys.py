"""API keys: who may come in, what they may do, and how much of it.

A key file is TOML, one table a key (docs/keys.md):

    [keys.team-a]
    key = "…"                     # or sha256 = "<64 hex digits>"
    scopes = ["generate"]         # generate, metrics, admin; admin has all
    weight = 2.0
    requests_per_minute = 600
    tokens_per_minute = 200_000
    max_concurrent = 64
"""

from __future__ import annotations

import hashlib
import re
import stat
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from octavo.shared.errors import ConfigError

Scope = Literal["generate", "metrics", "admin"]
ALL_SCOPES: frozenset[Scope] = frozenset({"generate", "metrics", "admin"})
MAX_KEYS = 1000
"""In a file: each request is compared with all."""
LONGEST_FILE = 2**20

_SENDABLE = re.compile(r"[!-~]([ -~]*[!-~])?")
"""What every client can put into a header, and every proxy passes on."""
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}\Z")]
Count = Annotated[int, Meta(ge=1, le=10**12)]
Weight = Annotated[float, Meta(ge=0.01, le=1000)]


class Quota(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one key may have. `weight`: its share among tenants; the rest is without limit where
    None. Rates count sequences and tokens (prompt and output) of the last minute."""

    name: str
    weight: float = 1.0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent: int | None = None


class Key(msgspec.Struct, frozen=True):
    """`digest`: sha256 of the key itself, which is kept nowhere."""

    digest: bytes
    quota: Quota
    scopes: frozenset[Scope] = ALL_SCOPES

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    key: Annotated[str, Meta(min_length=1, max_length=512)] | None = None
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{64}\Z")] | None = None
    scopes: Annotated[frozenset[Scope], Meta(min_length=1)] = frozenset({"generate"})
    weight: Weight = 1.0
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    max_concurrent: Count | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: Annotated[dict[Name, _Entry], Meta(max_length=MAX_KEYS)]


def digest_of(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def plain_key(key: str) -> Key:
    """A key without a file: it may do all, without limits. Raises ConfigError for none."""
    check_key(key)
    digest = digest_of(key)
    return Key(digest, Quota(name=digest.hex()[:16]))


def check_key(key: str) -> None:
    """Raise ConfigError for a key that no request could show."""
    if not _SENDABLE.fullmatch(key):
        raise ConfigError("a key is printable ASCII, without white space at an end")


def read_key_file(path: Path) -> list[Key]:
    """Raises ConfigError that names the file and the culprit, and never a key."""
    try:
        found = msgspec.convert(tomllib.loads(_text(path)), _File)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {_place(error)}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (ValueError, RecursionError):  # numbers of thousands of digits, thousands of brackets
        raise ConfigError(f"{path}: not a file of keys") from None
    keys = [_key(path, name, entry) for name, entry in found.keys.items()]
    if len({key.digest for key in keys}) < len(keys):
        raise ConfigError(f"{path}: two names have the same key")
    return keys


def _key(path: Path, name: str, entry: _Entry) -> Key:
    if (entry.key is None) == (entry.sha256 is None):
        raise ConfigError(f"{path}: keys.{name} needs one of key and sha256")
    if entry.key is not None:
        try:
            check_key(entry.key)
        except ConfigError as error:
            raise ConfigError(f"{path}: keys.{name}: {error}") from None
    digest = digest_of(entry.key) if entry.key else bytes.fromhex(entry.sha256 or "")
    quota = Quota(
        name=name,
        weight=entry.weight,
        requests_per_minute=entry.requests_per_minute,
        tokens_per_minute=entry.tokens_per_minute,
        max_concurrent=entry.max_concurrent,
    )
    return Key(digest, quota, entry.scopes)


def _text(path: Path) -> str:
    try:
        found = path.stat()
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(f"{path}: others than its owner may write to it (chmod go-w)")
        if found.st_size > LONGEST_FILE:
            raise ConfigError(f"{path}: larger than {LONGEST_FILE} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None


def _place(error: tomllib.TOMLDecodeError) -> str:
    """Where it is; what stands there may be a key."""
    _, _, place = str(error).rpartition("(")
    return place.rstrip(")") or "?"
