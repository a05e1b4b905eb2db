"""`octavo check-config`: what `octavo serve` would run with, and where each value comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from octavo.services.supervisor import listener
from octavo.services.supervisor.model_source import is_here, locate
from octavo.services.supervisor.options import OPTIONS, Option
from octavo.services.supervisor.resolve import resolve
from octavo.services.supervisor.settings import DEFAULT_LOG_LEVEL, Given, build, gather
from octavo.shared.config import EngineConfig, ServerConfig

SECRET = ("api_key",)
COLUMN = 52
"""Where sources begin, beside values that are not longer."""


def check_config(argv: list[str], environ: Mapping[str, str]) -> int:
    """0: it is sound. Raises ConfigError naming what is not."""
    given = gather(argv, environ, "check-config")
    check(build({name: one.value for name, one in given.items()}).server, environ)
    print("\n".join(lines(given)))
    return 0


def check(server: ServerConfig, environ: Mapping[str, str]) -> None:
    """As `octavo serve` would, but for what has to be fetched from a hub. Raises ConfigError."""
    listener.resolve(server.host, server.port)
    engine = server.engine
    here = [is_here(name) and bool(locate(name)) for name in (engine.model, engine.tokenizer or "")]
    if all(here):
        resolve(server, environ)


def lines(given: Mapping[str, Given]) -> Iterator[str]:
    """TOML that can serve as --config; what is open or secret stands in comments."""
    yield "# Flags win over variables, variables over the file, the file over defaults."
    model = given.get("model", Given("", "default: the bundled demo"))
    yield _line("model", Given(model.value, model.source.replace("flag", "argument")))
    group = ""
    for option in OPTIONS:
        if option.group != group:
            group = option.group
            yield f"\n# {group}"
        yield _line(option.name, _shown(option, given.get(option.name)))


def _shown(option: Option, given: Given | None) -> Given:
    if given is None:
        return Given(default(option), "default")
    if given.source == "flag":
        return Given(given.value, f"flag {option.flag}")
    return given


def default(option: Option) -> Any:
    """None where it depends on the model or the device."""
    if option.name == "log_level":
        return DEFAULT_LOG_LEVEL
    for struct in (EngineConfig, ServerConfig):
        for field in msgspec.structs.fields(struct):
            if field.name == option.name:
                return _of_field(field)
    return None


def _of_field(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory() if callable(field.default_factory) else None


def _line(name: str, given: Given) -> str:
    if given.value is None:
        text = f"# {name} ="
        given = Given(None, "default: none, or decided at the start")
    elif name in SECRET and given.value:
        text = f"# {name} = (not shown)"
    else:
        text = f"{name} = {toml(given.value)}"
    return f"{text:{COLUMN}}  # {given.source}"


def toml(value: Any) -> str:
    """JSON is TOML, for words, numbers, truth and lists of them."""
    return json.dumps(value, ensure_ascii=False)
