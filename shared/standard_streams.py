"""Standard input, output and error as a command may rely on them."""

from __future__ import annotations

import io
import os
import sys

MODES = {"stdin": "r", "stdout": "w", "stderr": "w"}


def open_standard_streams() -> None:
    """Whatever was closed is the null device from here on: else the next file or socket that is
    opened would get its number. What a stream's encoding does not have becomes marks."""
    for number, (name, mode) in enumerate(MODES.items()):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
