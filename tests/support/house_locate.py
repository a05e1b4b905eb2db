"""`python house_locate.py MODEL`: prints where a model is found, as the supervisor finds it."""

from __future__ import annotations

import logging
import sys

from octavo.services.supervisor import fetch_lines
from octavo.services.supervisor.model_source import locate
from octavo.shared.errors import ConfigError

if __name__ == "__main__":
    if "--lines" in sys.argv:
        logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
        vars(fetch_lines)["SECONDS_PER_LINE"] = 0.0
    try:
        print(locate(sys.argv[1], weights="--no-weights" not in sys.argv))
    except ConfigError as error:
        print(error.message)
        sys.exit(2)
