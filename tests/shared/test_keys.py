"""Key files: names, scopes and limits, and errors that tell no key."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from octavo.shared.errors import ConfigError
from octavo.shared.keys import Quota, digest_of, plain_key, read_key_file

SECRET = "sk-verysecret"


def read(folder: Path, text: str) -> list[object]:
    path = folder / "keys.toml"
    path.write_text(text)
    return list(read_key_file(path))


def test_names_scopes_and_limits(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"other").hexdigest()
    text = f"""
        [keys.team-a]
        key = "{SECRET}"
        weight = 2
        requests_per_minute = 60
        tokens_per_minute = 100_000
        max_concurrent = 8
        [keys.prometheus]
        sha256 = "{digest}"
        scopes = ["metrics"]
    """
    first, second = read_key_file(_written(tmp_path, text))
    assert first.digest == digest_of(SECRET)
    assert first.quota == Quota("team-a", 2.0, 60, 100_000, 8)
    assert first.may("generate") and not first.may("metrics") and not first.may("admin")
    assert second.digest == digest_of("other")
    assert second.may("metrics") and not second.may("generate")


def test_a_key_of_the_flag_may_do_all() -> None:
    key = plain_key(SECRET)
    assert all(key.may(scope) for scope in ("generate", "metrics", "admin"))
    assert SECRET not in repr(key)
    with pytest.raises(ConfigError):
        plain_key("\u043a\u043b\u044e\u0447")


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("[keys.a]", "keys.a needs one of key and sha256"),
        (f'[keys.a]\nkey = "{SECRET}"\nsha256 = "{"0" * 64}"', "keys.a needs one of"),
        (f'[keys.a]\nkey = "{SECRET}"\nweigth = 2', "weigth"),
        (f'[keys.a]\nkey = "{SECRET}"\nscopes = []', "scopes"),
        (f'[keys.a]\nkey = "{SECRET}"\nscopes = ["root"]', "root"),
        (f'[keys.a]\nkey = "{SECRET}"\nweight = nan', "weight"),
        (f'[keys.a]\nkey = "{SECRET}"\nweight = 0', "weight"),
        (f'[keys.a]\nkey = "{SECRET}"\nmax_concurrent = 0', "max_concurrent"),
        (f'[keys.a]\nkey = "{SECRET} "', "white space"),
        ('[keys.a]\nkey = ""', "key"),
        ('[keys.a]\nkey = "\u043a\u043b\u044e\u0447"', "keys.a: a key is printable ASCII"),
        ('[keys.a]\nkey = "a\\u0000b"', "keys.a: a key is printable ASCII"),
        ("a = " + "[" * 20_000, "not a file of keys"),
        ("[keys.a]\nrequests_per_minute = " + "9" * 5000, "not a file of keys"),
        ('[keys.a]\nsha256 = "abc"', "sha256"),
        (f'[keys."a b"]\nkey = "{SECRET}"', "keys"),
        (f'[keys.a]\nkey = "{SECRET}"\n[keys.b]\nkey = "{SECRET}"', "two names"),
        (f'keys = "{SECRET}"', "keys"),
        (f'[keys.a]\nkey = {SECRET}', "line 2"),
    ],
)  # fmt: skip
def test_errors_name_the_place_and_no_key(tmp_path: Path, text: str, culprit: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "keys.toml") in caught.value.message
    assert culprit in caught.value.message and SECRET not in caught.value.message


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_key_file(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="directory"):
        read_key_file(tmp_path)
    path = _written(tmp_path, "[keys]")
    for mode in (0o666, 0o602, 0o620):
        path.chmod(mode)
        with pytest.raises(ConfigError, match="others than its owner may write"):
            read_key_file(path)
    path.write_bytes(b"\xff")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="UTF-8"):
        read_key_file(path)


def _written(folder: Path, text: str) -> Path:
    path = folder / "keys.toml"
    path.write_text(text)
    return path
