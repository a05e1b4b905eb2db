"""What the exam keeps for itself: a tenth of everything that can be asked, chosen by a hash."""

from __future__ import annotations

from zlib import crc32

SHARE = 10


def held_out(*key: object) -> bool:
    """True for about one key in `SHARE`; the same on every machine."""
    return crc32("|".join(map(str, key)).encode()) % SHARE == 0
