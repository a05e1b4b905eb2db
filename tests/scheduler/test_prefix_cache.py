from __future__ import annotations

import numpy as np

from octavo.services.scheduler.prefix_cache import BlockHasher, PrefixCache

IDS = np.arange(10, dtype=np.int32)


def keys_of(
    ids: np.ndarray[tuple[int], np.dtype[np.int32]] = IDS,
    salt: str = "",
    fingerprint: bytes = b"model",
) -> list[bytes]:
    keys: list[bytes] = []
    BlockHasher(fingerprint, 4).extend(keys, ids, len(ids), salt)
    return keys


def test_only_full_blocks_have_keys() -> None:
    assert len(keys_of(IDS[:7])) == 1
    assert len(keys_of(IDS[:8])) == 2
    assert keys_of(IDS[:3]) == []


def test_a_key_depends_on_everything_before_it() -> None:
    changed = IDS.copy()
    changed[0] += 1
    assert keys_of(changed)[1] != keys_of()[1]
    assert keys_of(IDS[:8]) == keys_of()


def test_tenants_and_boots_do_not_meet() -> None:
    assert not set(keys_of()) & set(keys_of(salt="a"))
    assert not set(keys_of(salt="a")) & set(keys_of(salt="b"))
    assert not set(keys_of()) & set(keys_of(fingerprint=b"other"))


def test_keys_grow_as_ids_do() -> None:
    hasher = BlockHasher(b"model", 4)
    keys: list[bytes] = []
    for length in range(11):
        hasher.extend(keys, IDS, length, "")
    assert keys == keys_of()


def test_find_stops_at_the_first_gap() -> None:
    cache = PrefixCache(16)
    cache.insert(b"a", 5)
    cache.insert(b"c", 6)
    assert cache.find([b"a", b"b", b"c"]) == [5]


def test_the_first_block_of_a_key_stays() -> None:
    cache = PrefixCache(16)
    cache.insert(b"a", 5)
    cache.insert(b"a", 6)
    assert cache.find([b"a"]) == [5]
    assert 6 not in cache


def test_forgetting() -> None:
    cache = PrefixCache(16)
    for block, key in enumerate([b"a", b"b", b"c"]):
        cache.insert(key, block)
    cache.forget_block(1)
    cache.forget_block(9)
    cache.forget_keys([b"c", b"x"])
    assert cache.find([b"a", b"b"]) == [0]
    assert (1 in cache, 2 in cache, len(cache)) == (False, False, 1)
