"""Settings from flags, environment and TOML file, in this precedence; then the defaults."""

from __future__ import annotations

import argparse
import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from octavo.services.supervisor import from_vllm
from octavo.services.supervisor.bounds import check_server
from octavo.services.supervisor.help_pages import ShowHelp
from octavo.services.supervisor.options import (
    BY_NAME,
    OF_MODEL,
    OPTIONS,
    Option,
    boolean,
    words,
)
from octavo.shared.arguments import Parser
from octavo.shared.config import EngineConfig, ServerConfig
from octavo.shared.errors import ConfigError

PREFIX = "OCTAVO_"
TEST_PREFIX = "OCTAVO_TEST_"
SERVICE_LINK = re.compile(r"OCTAVO_(SERVICE_(HOST|PORT)\w*|PORT_\d+_\w+)")
"""Kubernetes sets these in every pod beside a service called octavo, and OCTAVO_PORT to a URL."""
DEFAULT_LOG_LEVEL = "INFO"
COMMANDS = {
    "serve": "Serve a model. Without MODEL: the bundled demo model.",
    "compile": "Compile every GPU kernel that `octavo serve` with the same flags needs, so that it "
    "finds them in the cache: for the build of an image.",
    "check-config": "Print the effective configuration, and where each value comes from.",
    "plan": "Flags of the server that `octavo plan` reckons with.",
    "verify": "Flags of the server that `octavo verify` sets up.",
    "run-batch": "Flags of the server that `octavo run-batch` starts.",
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for, not resolved yet; `server.engine.model` is as typed."""

    server: ServerConfig
    log_level: str = DEFAULT_LOG_LEVEL


def read_settings(argv: list[str], environ: Mapping[str, str], command: str = "serve") -> Settings:
    """Settings for the arguments after `command`. Raises ConfigError naming the culprit."""
    given = gather(argv, environ, command)
    return build({name: one.value for name, one in given.items()})


@dataclass(frozen=True)
class Given:
    """A value that is no default, and where it comes from."""

    value: Any
    source: str


def gather(argv: list[str], environ: Mapping[str, str], command: str) -> dict[str, Given]:
    """What was given for each option, by the source that wins. Raises ConfigError."""
    flags = parse_flags(argv, command)
    variables = parse_environment(environ)
    config = flags.pop("config", None) or variables.pop("config", None)
    variables.pop("config", None)
    from_file = parse_file(Path(config)) if config else {}
    return {
        **{name: Given(value, f"file {config}") for name, value in from_file.items()},
        **{
            name: Given(value, f"variable {PREFIX}{name.upper()}")
            for name, value in variables.items()
        },
        **{name: Given(value, "flag") for name, value in flags.items()},
    }


def build(values: dict[str, Any]) -> Settings:
    """Option names and values -> Settings. Raises ConfigError for a value that cannot be."""
    values = dict(values)
    if template := values.get("chat_template"):
        values["chat_template"] = _read_text(Path(str(template)))
    if values.get("max_model_len") == OF_MODEL:
        del values["max_model_len"]
    level = str(values.pop("log_level", DEFAULT_LOG_LEVEL))
    engine = {name: values.pop(name) for name in EngineConfig.__struct_fields__ if name in values}
    server = convert({**values, "engine": engine}, ServerConfig)
    check_server(server)
    return Settings(
        server=server,
        log_level=parse_value(BY_NAME["log_level"], level, "log_level"),
    )


def convert(values: dict[str, Any], kind: type[Any]) -> Any:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at ")
        name = where.strip("`").split(".")[-1]
        raise ConfigError(f"{name}: {text}" if name else text) from error


# --- flags ----------------------------------------------------------------------------------


def parse_flags(argv: list[str], command: str = "serve") -> dict[str, Any]:
    """The options that `argv` names, by option name; `model` and `config` too."""
    found, unknown = make_parser(command).parse_known_args(argv)
    for argument in unknown:
        name = argument.partition("=")[0]
        if hint := from_vllm.hint(name):
            raise ConfigError(f"{name}: {hint}")
        flags = [option.flag for option in OPTIONS]
        known = [*flags, "--config", "--no-enable-prefix-caching", "--no-enforce-eager", "--help"]
        raise ConfigError(_unknown("argument", name, known))
    values = {name: value for name, value in vars(found).items() if value is not None}
    if named := values.pop("named_model", None):
        if "model" in values:
            raise ConfigError(f"the model is named twice: {values['model']} and --model {named}")
        values["model"] = named
    return values


def make_parser(command: str) -> argparse.ArgumentParser:
    parser = Parser(
        f"octavo {command}",
        usage=f"octavo {command} [MODEL] [flags]",
        add_help=False,
        description=COMMANDS[command],
        epilog="Every option is also a variable OCTAVO_<NAME> and a key of the --config file; "
        "flags win over variables, variables over the file.",
    )
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="Directory, or id on the Hugging Face hub."
    )
    parser.add_argument("--model", dest="named_model", help=argparse.SUPPRESS)
    parser.add_argument("--config", metavar="FILE", help="TOML file of options.")
    parser.add_argument(
        "-h",
        "--help",
        action=ShowHelp,
        metavar="all|GROUP|WORD",
        help="Show the usual options, all of them, a group's, or those that name a word.",
    )
    groups: dict[str, Any] = {}
    for option in OPTIONS:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        _add_flag(groups[option.group], option)
    return parser


def _add_flag(group: Any, option: Option) -> None:
    names = [option.flag, *([option.alias] if option.alias else [])]
    text = option.help + _default_text(option)
    if option.parse is boolean:
        group.add_argument(*names, action=argparse.BooleanOptionalAction, default=None, help=text)
    elif option.parse is words:
        group.add_argument(*names, nargs="+", action="extend", metavar=option.metavar, help=text)
    else:
        group.add_argument(
            *names,
            type=_checked(option),
            choices=option.choices or None,
            metavar="{" + ",".join(option.choices) + "}"
            if option.choices
            else option.metavar or "X",
            help=text,
        )


def _checked(option: Option) -> Any:
    def parse(text: str) -> Any:
        try:
            return parse_value(option, text)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(error.message) from error

    return parse


def _default_text(option: Option) -> str:
    for struct in (EngineConfig, ServerConfig):
        for field in msgspec.structs.fields(struct):
            if field.name == option.name and isinstance(field.default, (str, int, float)):
                return f" Default: {str(field.default).replace('%', '%%')}."
    return ""


# --- environment and file -------------------------------------------------------------------


def parse_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable.startswith(TEST_PREFIX):
            continue
        if SERVICE_LINK.fullmatch(variable) or text.startswith(("tcp://", "udp://")):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if variable != PREFIX + name.upper() or not _is_known(name):
            known = [option.variable for option in OPTIONS]
            raise ConfigError(
                _unknown("variable", variable, [*known, "OCTAVO_MODEL", "OCTAVO_CONFIG"])
            )
        if text:
            values[name] = parse_value(BY_NAME[name], text, variable) if name in BY_NAME else text
    return values


def parse_file(path: Path) -> dict[str, Any]:
    """Keys as flags spell them, with - or _; values as TOML types, or as a flag's text."""
    try:
        table = tomllib.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from error
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name != "model" and name not in BY_NAME:
            known = [option.name for option in OPTIONS]
            raise ConfigError(f"{path}: {_unknown('key', key, [*known, 'model'])}")
        option = BY_NAME.get(name)
        takes_text = option is not None and isinstance(value, str)
        values[name] = parse_value(option, value, f"{path}: {key}") if takes_text else value
    return values


def parse_value(option: Option | None, text: str, source: str = "") -> Any:
    """One option's text as its value; `source` says where it stood. Raises ConfigError."""
    if option is None:
        return text
    prefix = f"{source}: " if source else ""
    try:
        value = option.parse(text)
    except ValueError as error:
        raise ConfigError(f"{prefix}{error}") from error
    if option.choices and value not in option.choices:
        raise ConfigError(f"{prefix}{text!r} is not one of {', '.join(option.choices)}")
    return value


def _is_known(name: str) -> bool:
    return name in BY_NAME or name in ("model", "config")


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"unknown {what} {name}{hint}"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: {reason}") from error
