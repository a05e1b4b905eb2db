"""Row G: nobody sees, changes or ends what is another's."""

from __future__ import annotations

import http.client
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from security import COMPLETIONS, KEYS, Target, target

from octavo.services.scheduler.prefix_cache import BlockHasher

TENANTS = 16
REQUESTS = 128
"""Of 8 slots: each is used 16 times."""
SEEN = "Nobody but me knows this sentence, for it is mine alone and long enough for a few blocks. "


def cached(served: Target, key: str, salt: str | None = None, **more: Any) -> int:
    """Tokens of a long prompt that were in the prefix cache."""
    fields = {"prompt": SEEN * 4, "max_tokens": 1, "cache_salt": salt, **more}
    answer = served.post(COMPLETIONS, key=key, **fields)
    return int(answer.json["usage"]["prompt_tokens_details"]["cached_tokens"])


def test_cve_2025_46570_a_prefix_is_shared_by_nobody_else(served: Target) -> None:
    assert cached(served, KEYS[0]) == 0
    assert cached(served, KEYS[0]) > 0
    assert cached(served, KEYS[1]) == 0
    assert cached(served, KEYS[0], "mine") == 0
    assert cached(served, KEYS[1], "mine") == 0
    assert cached(served, KEYS[0], "mine") > 0


def test_cve_2026_105754_no_field_names_another_ones_blocks(served: Target) -> None:
    """CVE-2026-111392 and CVE-2025-46722 likewise: hashes that callers send, or that say little."""
    cached(served, KEYS[0], "victim")
    for salt in ("victim", ":victim", "0:victim", f"{KEYS[0]}:victim"):
        assert cached(served, KEYS[1], salt) == 0
    stolen = {"block_hashes": ["0"], "mm_hashes": ["0"], "prompt_cache_key": "victim"}
    assert cached(served, KEYS[1], "own", **stolen) == 0


def test_cve_2026_105755_a_request_id_is_no_key(served: Target) -> None:
    for number in range(2):
        headers = {"X-Request-Id": "the-same"}
        body = {"prompt": f"Count to {number}.", "max_tokens": 6, "temperature": 0}
        alone = served.call("POST", COMPLETIONS, body).json["choices"]
        assert served.call("POST", COMPLETIONS, body, headers).json["choices"] == alone


def test_cve_2026_112266_a_short_id_ends_nobody_elses_request(served: Target) -> None:
    def long(request_id: str) -> str:
        body: dict[str, Any] = {"prompt": "Tell me", "max_tokens": 150, "seed": 1}
        answer = served.post(COMPLETIONS, request_id=request_id, ignore_eos=True, **body)
        assert answer.json["choices"][0]["finish_reason"] == "length"
        return str(answer.json["choices"][0]["text"])

    def leave(request_id: str) -> None:
        body = f'{{"prompt":"a","max_tokens":500,"ignore_eos":true,"request_id":"{request_id}"}}'
        head = (
            f"POST {COMPLETIONS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEYS[1]}\r\n"
            f"X-Request-Id: {request_id}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
        with socket.create_connection(("127.0.0.1", served.server.port)) as peer:
            peer.sendall(head.encode())
            time.sleep(0.1)

    with ThreadPoolExecutor(8) as pool:
        staying = [pool.submit(long, f"abc{number}") for number in range(3)]
        for request_id in ("a", "ab", "abc", "abc0", "abc1"):
            pool.submit(leave, request_id)
        assert len({one.result() for one in staying}) == 1


def test_cve_2025_25183_block_keys_cannot_be_foretold() -> None:
    """GHSA-rm76-4mrf-v9r8: Python's hash() of numbers is the same everywhere."""
    program = (
        "import numpy; from octavo.services.scheduler.prefix_cache import BlockHasher; keys = [];"
        "BlockHasher(b'boot', 4).extend(keys, numpy.arange(8, dtype='int32'), 8, 'salt');"
        "print(b''.join(keys).hex())"
    )
    command = [sys.executable, "-P", "-c", program]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    ids = np.arange(8, dtype=np.int32)

    def keys(fingerprint: bytes, salt: str = "salt") -> str:
        found: list[bytes] = []
        BlockHasher(fingerprint, 4).extend(found, ids, 8, salt)
        assert [len(one) for one in found] == [32, 32]
        return b"".join(found).hex()

    assert keys(b"boot") == printed  # of no process's own randomness
    assert keys(b"another boot") != printed and keys(b"boot", "other") != printed


def words(tenant: int) -> list[str]:
    return [f"tenant{tenant:02d}x", f"canary{tenant:02d}y"]


def canary(served: Target, number: int, tenant: int, key: str) -> str | None:
    """One request of a tenant's, which can only say its own words; what is wrong with it."""
    rng = random.Random(number)
    own = words(tenant)
    fields: dict[str, Any] = {
        "prompt": f"{own[0]} " * rng.randrange(1, 30),
        "max_tokens": rng.randrange(16, 24),
        "temperature": rng.choice([0, 1]),
        "logprobs": rng.choice([None, 3]),
        "presence_penalty": rng.choice([0, 2]),
        "cache_salt": rng.choice([None, own[0]]),
        "structured_outputs": {"choice": own},
    }
    if rng.random() < 0.3:  # one without a mask, so that rows with and without change places
        ids = [300 + tenant]
        del fields["structured_outputs"]
        fields |= {"allowed_token_ids": ids, "ignore_eos": True, "return_token_ids": True}
        choice = served.post(COMPLETIONS, key=key, **fields).json["choices"][0]
        return None if set(choice["token_ids"]) == set(ids) else f"{tenant}: {choice}"
    answer = served.post(COMPLETIONS, key=key, **fields)
    text = answer.json["choices"][0]["text"]
    return None if text in own else f"{tenant}: {text!r}"


def leaks(served: Target, keys: Sequence[str], tenants: int, requests: int) -> list[str]:
    def one(number: int) -> str | None:
        return canary(served, number, number % tenants, keys[number % len(keys)])

    with ThreadPoolExecutor(16) as pool:
        found = [wrong for wrong in pool.map(one, range(requests)) if wrong]
    served.wait_idle()
    return found


def test_g1_canaries_stay_with_their_tenants(served: Target) -> None:
    """CVE-2026-114049 (a mask that stayed with the slot), GHSA-v97p-wpxp-px84 (its tokens),
    CVE-2026-93840 and CVE-2026-93989 (ids beyond the logits: refused in row F), and
    GHSA-fpch-3xrf-7q96 (a text into another row: test_recycled_slots.py forces some)."""
    assert leaks(served, KEYS, TENANTS, REQUESTS) == []


@pytest.fixture
def many_keys(tmp_path: Path) -> Iterator[tuple[Target, list[str]]]:
    """A server with 64 keys of a file."""
    keys = [f"key-of-tenant-{number:02d}" for number in range(64)]
    path = tmp_path / "keys.toml"
    path.write_text("".join(f'[keys.t{key[-2:]}]\nkey = "{key}"\n' for key in keys))
    with target("--max-num-seqs", "8", "--api-key-file", str(path)) as running:
        yield running, keys


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_g1_ten_thousand_requests_of_64_keys(many_keys: tuple[Target, list[str]]) -> None:
    served, keys = many_keys
    assert leaks(served, keys, len(keys), 10_000) == []
    assert not any("Traceback" in line for line in served.server.lines)


ROUNDS = 500
"""Of an area under the curve that is 0.5, the standard error is then 0.018."""


def ttft(client: http.client.HTTPConnection, prompt: str, key: str) -> float:
    """Seconds to the first token."""
    body = json.dumps({"prompt": prompt, "max_tokens": 1}).encode()
    began = time.monotonic()
    client.request("POST", COMPLETIONS, body, {"Authorization": f"Bearer {key}"})
    answer = client.getresponse()
    answer.read()
    assert answer.status == 200
    return time.monotonic() - began


def area(hits: list[float], misses: list[float]) -> float:
    """Under the ROC curve: how often a miss takes longer than a hit."""
    order = sorted([(seconds, 0) for seconds in hits] + [(seconds, 1) for seconds in misses])
    ranks = sum(rank for rank, (_, miss) in enumerate(order, 1) if miss)
    return (ranks - len(misses) * (len(misses) + 1) / 2) / (len(hits) * len(misses))


def test_the_area_under_a_curve() -> None:
    assert area([1, 2, 3], [4, 5]) == 1 and area([4, 5], [1, 2, 3]) == 0
    assert area([1, 4], [2, 3]) == 0.5


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_g2_the_time_tells_nothing_of_another_keys_prompts(served: Target) -> None:
    """CVE-2025-46570: eight tokens were enough to tell whether somebody had asked the same. Within
    a key, where prefixes are shared, the same measurement does tell."""
    rng = random.Random(0)
    times: dict[str, list[float]] = {"hit": [], "miss": [], "own": []}

    def prompt(number: int) -> str:
        return " ".join(f"{number:05}" for _ in range(40)) + " and so on" * 20  # all as long

    port = served.server.port
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:
        for number in range(ROUNDS):
            ttft(client, prompt(number), KEYS[0])
            asked = {
                "hit": (prompt(number), KEYS[1]),
                "miss": (prompt(number + ROUNDS), KEYS[1]),
                "own": (prompt(number), KEYS[0]),
            }
            for name in rng.sample(sorted(asked), 3):
                times[name].append(ttft(client, *asked[name]))
    across, within = area(times["hit"], times["miss"]), area(times["own"], times["miss"])
    print(f"G2 AUC across keys {across:.3f} (at most 0.55), within a key {within:.3f}")
    assert within > 0.8
    assert abs(across - 0.5) <= 0.05


@pytest.mark.parametrize("fields", [{"bad_words": ["\ud7ff" * 60]}, {"bad_words": [" "] * 100}])
def test_cve_2026_93989_bad_words_at_their_bounds(served: Target, fields: dict[str, Any]) -> None:
    assert served.post(COMPLETIONS, prompt="a", max_tokens=2, **fields).status in (200, 400)
    assert served.complete()["choices"]
