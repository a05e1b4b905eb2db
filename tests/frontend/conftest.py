"""The tokenizer of every frontend that needs none of its own."""

from __future__ import annotations

import pytest
from front_tokenizers import load_byte_level

from octavo.shared.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_byte_level(tmp_path_factory.mktemp("tokenizer"))
