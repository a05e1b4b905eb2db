"""The files of the live page: what a browser may fetch without a key, for they hold nothing of the
server."""

from __future__ import annotations

PAGE = "page.html"
MODULES = ("page", "dom", "key", "feed", "server", "tables", "sparks", "map", "chat", "tokens")
PARTS = ("page.css", *(f"{name}.js" for name in MODULES))
"""Under /ui/."""
