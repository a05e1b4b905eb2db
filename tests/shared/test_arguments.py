"""Command lines without the keys in them."""

from __future__ import annotations

import pytest

from octavo.shared.arguments import without_keys


@pytest.mark.parametrize(
    ("line", "rest", "keys"),
    [
        ("serve --port 1", "serve --port 1", []),
        ("serve MODEL --api-key a b --port 1", "serve MODEL --port 1", ["a", "b"]),
        ("serve --api-key a --api-key b c", "serve", ["a", "b", "c"]),
        ("serve --api-key=a MODEL", "serve MODEL", ["a"]),
        ("serve --api-key-file keys.toml MODEL", "serve --api-key-file keys.toml MODEL", []),
        ("complete --api-key a text", "complete text", ["a"]),
        ("serve --api-key", "serve", []),
        ("", "", []),
    ],
)
def test_they_are_found_where_argparse_finds_them(line: str, rest: str, keys: list[str]) -> None:
    assert without_keys(line.split()) == (rest.split(), keys)
