"""`--help`: the options that most people need on the first page, all or a search on request."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from octavo.services.supervisor.options import OPTIONS, Option

FIRST_PAGE = (
    *("dtype", "max_model_len", "load_format", "runner", "chat_template"),
    *("device", "tensor_parallel_size", "enforce_eager", "deterministic"),
    *("enable_prefix_caching", "max_num_seqs", "max_num_batched_tokens"),
    *("gpu_memory_utilization", "kv_cache_memory_bytes"),
    *("host", "port", "served_model_name", "api_key", "api_key_file", "tool_call_parser"),
    *("reasoning_parser", "frontends", "shutdown_timeout", "max_queued_requests"),
    *("log_level", "log_format"),
)
MOST = 40
"""Flags on the first page."""
ALL = "all"


class HelpPage(argparse.Action):
    """An option that may be followed by a page's name, and sets nothing."""

    def __init__(self, option_strings: list[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs="?", const="", **options)


class ShowHelp(HelpPage):
    """`--help`, `--help=all`, `--help=GROUP` or `--help=WORD`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        keep_only(parser, chosen(str(values)))
        parser.print_help()
        parser.exit()


def chosen(wanted: str) -> list[Option]:
    """Options of the page `wanted`: the first, all, a group's, or those that name the word."""
    word = wanted.strip().lower().replace("-", "_").lstrip("_")
    if not word:
        return [option for option in OPTIONS if option.name in FIRST_PAGE][:MOST]
    if word == ALL:
        return list(OPTIONS)
    group = [option for option in OPTIONS if word in _words(option.group)]
    return group or [option for option in OPTIONS if word in _text(option)]


def _words(group: str) -> list[str]:
    return [group.lower().replace(" ", "_"), *group.lower().split()]


def _text(option: Option) -> str:
    return f"{option.name} {option.alias or ''} {option.help}".lower().replace("-", "_")


def keep_only(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """Hide every option but these, and the groups that are empty then."""
    shown = {option.name for option in options}
    hidden = [option for option in OPTIONS if option.name not in shown]
    for action in parser._actions:
        if action.dest in {option.name for option in hidden}:
            action.help = argparse.SUPPRESS
    if not shown:
        parser.epilog = "No option is called so, nor says so: --help=all lists all."
    elif hidden:
        parser.epilog = f"{len(hidden)} more options: --help=all, --help=GROUP or --help=WORD. " + (
            parser.epilog or ""
        )
