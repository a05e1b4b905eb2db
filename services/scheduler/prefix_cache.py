"""PrefixCache: full blocks by the hash of everything up to their end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from octavo.shared.messages import Ints


class BlockHasher:
    """Keys of a sequence's full blocks: key[i] = sha256(key[i-1] + ids of block i).

    key[-1] is sha256(fingerprint + salt). The fingerprint names what else the KV depends on
    (weights, dtype) and holds a secret of this boot, so that nobody outside can know a key; the
    salt separates tenants.
    """

    def __init__(self, fingerprint: bytes, block_size: int) -> None:
        self._fingerprint = hashlib.sha256(fingerprint).digest()
        self._block_size = block_size

    def extend(self, keys: list[bytes], token_ids: Ints, num_tokens: int, salt: str) -> None:
        """Add to `keys` what is missing for the full blocks of the first `num_tokens` ids."""
        wanted = num_tokens // self._block_size
        if len(keys) >= wanted:
            return
        key = keys[-1] if keys else self._seed(salt)
        start = len(keys) * self._block_size
        data = token_ids[start : wanted * self._block_size].tobytes()
        width = 4 * self._block_size
        for offset in range(0, len(data), width):
            key = hashlib.sha256(key + data[offset : offset + width]).digest()
            keys.append(key)

    def _seed(self, salt: str) -> bytes:
        return hashlib.sha256(self._fingerprint + salt.encode()).digest()


class PrefixCache:
    """Two maps that mirror each other; the blocks themselves belong to the pool.

    `findable`: 1 of each block that is in them.
    """

    def __init__(self, num_blocks: int) -> None:
        self.findable = bytearray(num_blocks)
        self._block_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._block_of)

    def __contains__(self, block: int) -> bool:
        return block in self._key_of

    def find(self, keys: Sequence[bytes]) -> list[int]:
        """Blocks of the longest cached prefix of `keys`."""
        blocks = []
        for key in keys:
            if (block := self._block_of.get(key)) is None:
                break
            blocks.append(block)
        return blocks

    def insert(self, key: bytes, block: int) -> None:
        """Make a block findable. The first block of a key stays: it may be shared already."""
        if key not in self._block_of and block not in self._key_of:
            self._block_of[key] = block
            self._key_of[block] = key
            self.findable[block] = 1

    def forget_block(self, block: int) -> None:
        """The block's contents are about to change."""
        if (key := self._key_of.pop(block, None)) is not None:
            del self._block_of[key]
            self.findable[block] = 0

    def forget_keys(self, keys: Iterable[bytes]) -> None:
        """The contents behind these keys are not to be trusted."""
        for key in keys:
            if (block := self._block_of.pop(key, None)) is not None:
                del self._key_of[block]
                self.findable[block] = 0
