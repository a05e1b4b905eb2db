"""README and docs/: what they show runs, what they name exists, what they link to is there."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from octavo_server import Server, serving

from octavo.services.completion import whole_parser
from octavo.services.launch import COMMANDS
from octavo.services.supervisor import from_vllm
from octavo.services.supervisor.options import OPTIONS

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "bench" / "README.md"]
CODE = re.compile(r"```[a-z]*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
COMMAND = re.compile(r"(?<!-g )\boctavo ([a-z][a-z-]+)")
VARIABLE = re.compile(r"\bOCTAVO_[A-Z_]+[A-Z]\b")
PLACE = re.compile(
    r"(?<![\w./-])(?:bench|deploy|docs|kernels|services|shared|tests|tools)/(?!\S*<)[\w./*@-]*[\w*]"
)
FOREIGN = {
    *(
        "--build",
        "--scale",
        "--no-deps",
        "--shm-size",
        "--gpus",
        "--name",
        "--change",
        "--wait",
    ),  # docker
    *("--create", "--now", "--offline"),  # systemd
    *("--require-hashes", "--no-build-isolation"),  # pip
}
"""Flags of other programs."""


def code(page: Path) -> Iterator[str]:
    for block, span in CODE.findall(page.read_text()):
        yield block or span


def flags_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from flags_of(inner)


def known_flags() -> set[str]:
    """Of every command, and of the scripts of bench/ and tools/."""
    found = set(flags_of(whole_parser({name: one.summary for name, one in COMMANDS.items()})))
    for folder in ("bench", "tools"):
        for path in (ROOT / folder).rglob("*.py"):
            found |= set(re.findall(r'"(--[a-z][a-z0-9-]+)"', path.read_text()))
    return found


by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@by_page
def test_links(page: Path) -> None:
    for link in LINK.findall(CODE.sub("", page.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """Of headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@by_page
def test_flags_exist(page: Path) -> None:
    known = known_flags() | FOREIGN
    if page.name == "migration.md":
        known |= set(from_vllm.HINTS)
    named = {flag for text in code(page) for flag in FLAG.findall(text)}
    assert named <= known, sorted(named - known)


def test_no_foreign_flag_is_left_over() -> None:
    named = {flag for page in PAGES for text in code(page) for flag in FLAG.findall(text)}
    assert named >= FOREIGN and not known_flags() & FOREIGN


@by_page
def test_commands_and_variables_exist(page: Path) -> None:
    text = "\n".join(code(page))
    assert set(COMMAND.findall(text)) <= {*COMMANDS, "help"}
    variables = {option.variable for option in OPTIONS} | {"OCTAVO_MODEL", "OCTAVO_CONFIG"}
    named = {name for name in VARIABLE.findall(text) if not name.startswith("OCTAVO_TEST_")}
    assert named <= variables


@by_page
def test_files_exist(page: Path) -> None:
    written = re.compile(r"(?:--json|--plot|results\.py) (\S+)")
    for text in code(page):
        for place in set(PLACE.findall(text)) - set(written.findall(text)):
            assert any(any(root.glob(place)) for root in (ROOT, page.parent)), place


def test_every_flag_of_vllm_with_a_hint_is_in_the_guide() -> None:
    text = (ROOT / "docs" / "migration.md").read_text()
    assert [flag for flag in from_vllm.HINTS if f"`{flag}`" not in text] == []


def test_messages_that_are_quoted_are_ours() -> None:
    """In the column of what one sees; `…` stands for what differs."""
    said = "\n".join(product_texts())
    for row in (ROOT / "docs" / "troubleshooting.md").read_text().splitlines():
        seen = row.split("|")[1] if row.startswith("| ") else ""
        for quoted in re.findall(r"`([^`]+)`", seen):
            for part in filter(None, (part.strip() for part in quoted.split("…"))):
                assert part in said, quoted


def product_texts() -> Iterator[str]:
    """Sources, with literals that span lines put together."""
    for folder in ("services", "shared", "kernels"):
        for path in (ROOT / folder).rglob("*.py"):
            yield re.sub(r'"\s*\n\s*f?"', "", path.read_text())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """As `make serve` starts it, but for its port."""
    with serving() as running:
        yield running


SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize(("snippet", "says"), list(zip(SNIPPETS, ["85", " "], strict=True)))
def test_snippets_run(snippet: str, says: str, server: Server) -> None:
    told = snippet.replace("http://127.0.0.1:8000", server.url)
    ended = subprocess.run([sys.executable, "-P", "-c", told], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert says in ended.stdout
