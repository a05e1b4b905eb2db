"""Two servers of the bundled model for all tests here: a usual one, and one as nobody starts it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flaws import flaws_in
from front_tokenizers import load_byte_level
from security import BOMB, KEYS, Target, target

from octavo.shared.text.tokenizer import Tokenizer


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Docstrings name tests too."""
    for item in items:
        docstring = getattr(getattr(item, "function", None), "__doc__", None) or ""
        item.extra_keyword_matches |= flaws_in(docstring)


@pytest.fixture(scope="session")
def served() -> Iterator[Target]:
    with target("--max-num-seqs", "8") as running:
        yield running


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Two frontends, without asserts, with keys from the command line, whose model's template is a
    bomb and which take others from requests."""
    template = tmp_path_factory.mktemp("template") / "bomb.jinja"
    template.write_text(BOMB)
    flags = ("--chat-template", str(template), "--trust-request-chat-template")
    keys = ("--api-key", *KEYS)
    with target(*flags, *keys, "--frontends", "2", PYTHONOPTIMIZE="1") as running:
        yield running


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_byte_level(tmp_path_factory.mktemp("tokenizer"))
