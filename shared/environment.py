"""The environment is read here and in `octavo.services.launch`, nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

BARE = re.compile(
    r"PATH|LANG|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH|OCTAVO_TEST_\w+"
    r"|PYTHON(HOME|PATH|SAFEPATH|OPTIMIZE|WARNINGS|UNBUFFERED|UTF8|HASHSEED|FAULTHANDLER|MALLOC"
    r"|DONTWRITEBYTECODE|PYCACHEPREFIX|NOUSERSITE|IOENCODING|ASYNCIODEBUG|TRACEMALLOC)"
)
"""Names without which an interpreter may not come up, or not where it should."""


def environment() -> dict[str, str]:
    """A copy of this process's environment, to be handed down as a value."""
    return dict(os.environ)


def bare(environ: Mapping[str, str]) -> dict[str, str]:
    """What any process of ours needs of it, and nothing else."""
    return {name: value for name, value in environ.items() if BARE.fullmatch(name)}
