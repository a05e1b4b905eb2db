"""One server of the bundled demo model for all end-to-end tests that do not break it."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from octavo_server import Server, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with serving("--device", "cpu", "--served-model-name", "demo") as running:
        yield running


@pytest.fixture(scope="session")
def embedder() -> Iterator[Server]:
    """The same model as one that embeds."""
    flags = ("--device", "cpu", "--served-model-name", "demo", "--runner", "pooling")
    with serving(*flags) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as sdk:
        yield sdk
