"""The first page of help is short; the rest is found by group or word."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest

from octavo.services.launch import COMMANDS, run
from octavo.services.supervisor.help_pages import FIRST_PAGE, MOST
from octavo.services.supervisor.options import BY_NAME, OPTIONS


def shown(page: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        run(["serve", page], {})
    assert end.value.code == 0
    return capsys.readouterr().out


def flags_in(text: str) -> list[str]:
    return [line.split()[0].rstrip(",") for line in text.splitlines() if line.startswith("  -")]


def test_first_page(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown("--help", capsys)
    found = flags_in(text)
    assert 20 <= len(found) <= MOST and "--port" in found and "--seed" not in found
    assert "--help=all" in text


def test_the_first_page_names_options_that_exist() -> None:
    assert set(FIRST_PAGE) <= set(BY_NAME)


def test_all_group_word_and_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    everything = shown("--help=all", capsys)
    assert all(option.flag in everything for option in OPTIONS)
    group = flags_in(shown("--help=Memory", capsys))
    assert "--block-size" in group and "--port" not in group
    assert flags_in(shown("--help=hang-timeout", capsys))[2:] == ["--hang-timeout"]
    assert "--help=all" in shown("--help=xyzzy", capsys)


def test_commands_are_listed_by_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"], {}) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)
    assert all(f"\n{command.group}\n" in text for command in COMMANDS.values())
    assert run(["serv"], {}) == 2
    assert "did you mean serve?" in capsys.readouterr().err
    assert run([], {}) == 2
    assert len(FIRST_PAGE) == len(set(FIRST_PAGE)) <= MOST


def printed(*argv: str, capsys: pytest.CaptureFixture[str]) -> str:
    with contextlib.suppress(SystemExit):
        assert run(list(argv), {}) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("help serve", "usage: octavo serve "),
        ("--help serve", "usage: octavo serve "),
        ("help plan", "usage: octavo plan "),
        ("--help=all", "--seed X"),
        ("--help=hang", "--hang-timeout X"),
        ("help", "octavo COMMAND --help"),
        ("plan --help", "--lengths N,N"),
        ("plan --help=all", "--seed X"),
        ("verify --help=memory", "--block-size X"),
        ("run-batch --help=timeout", "--hang-timeout X"),
        ("check-config --help=hang", "--hang-timeout X"),
    ],
)
def test_every_way_to_ask_for_help(
    argv: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(*argv.split(), capsys=capsys)
    assert says in text
    assert ("--port X" in text) == (argv in ("help serve", "--help serve") or "=all" in argv)


def test_help_of_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "srve"], {}) == 2
    assert "unknown command srve; did you mean serve?" in capsys.readouterr().err


def completions(line: str, script: Path) -> list[str]:
    """What bash offers for the last word of `line`."""
    words = line.split()
    ask = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _shtab_octavo"
    show = 'echo "${COMPREPLY[@]}"'
    found = subprocess.run(
        ["bash", "-c", f"{ask}; {show}"], capture_output=True, text=True, check=True
    )
    return found.stdout.split()


def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "bash"], {}) == 0
    script = tmp_path / "octavo.bash"
    script.write_text(capsys.readouterr().out)
    assert completions("octavo ser", script) == ["serve"]
    offered = completions("octavo serve --max", script)
    assert "--max-model-len" in offered and "--max-queued-tokens" in offered
    assert "--gpu" in completions("octavo plan --g", script)
    assert completions("octavo admin restart-w", script) == ["restart-workers"]
    assert completions("octavo serve --dtype f", script) == ["float32", "float16"]
    assert completions("octavo plan --log-level W", script) == ["WARNING"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell], {}) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    assert run(["completion", "cmd"], {}) == 2


@pytest.mark.parametrize(("shell", "flag"), [("bash", "-n"), ("zsh", "-n"), ("fish", "-N")])
def test_scripts_are_sound_to_the_shell_itself(
    shell: str, flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"Debian's package {shell} is not installed")
    assert run(["completion", shell], {}) == 0
    (script := tmp_path / "script").write_text(capsys.readouterr().out)
    read = subprocess.run([shell, flag, str(script)], capture_output=True, text=True)
    assert (read.returncode, read.stderr) == (0, "")
