"""Octavo's version, also where its code runs without having been installed."""

from __future__ import annotations

import importlib.metadata

try:
    VERSION = importlib.metadata.version("octavo")
except importlib.metadata.PackageNotFoundError:
    VERSION = "0+source"
