"""Authentication: every route but the probes, keys of a file, what each may do, and changes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from front_engine import Frontend, frontend

from octavo.services.frontend import auth
from octavo.services.frontend.app import SERVED
from octavo.services.frontend.auth import OPEN_PATHS, PAGE_PATHS, KeyRing
from octavo.shared.text.tokenizer import Tokenizer

CHAT = "/v1/chat/completions"
HI = {"messages": [{"role": "user", "content": "Hi"}]}
FILE = """
[keys.alice]
key = "one"
requests_per_minute = 7
[keys.bob]
key = "two"
scopes = ["generate", "metrics"]
[keys.watcher]
key = "three"
scopes = ["metrics"]
[keys.boss]
key = "four"
scopes = ["admin"]
"""


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    path.write_text(FILE)
    return path


def run(tokenizer: Tokenizer, test: Callable[[Frontend], Awaitable[None]], **config: Any) -> None:
    async def main() -> None:
        async with frontend(tokenizer, "Hello", **config) as front:
            await test(front)

    asyncio.run(main())


async def status(front: Frontend, method: str, path: str, key: str | None, **more: Any) -> int:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    answer = await front.client.request(method, path, headers=headers, **more)
    return answer.status_code


def paths() -> list[tuple[str, str]]:
    filled = [(one.path.split("{")[0] + ("x" * ("{" in one.path)), one) for one in SERVED]
    return [(method, path) for path, one in filled for method in one.methods]


def test_every_route_asks_for_a_key(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        asked = [*paths(), ("GET", "/"), ("GET", "/nowhere"), ("POST", "//health"), ("PUT", CHAT)]
        for method, path in asked:
            for key in (None, "", "wrong", "secre", "secret2"):
                found = await status(front, method, path, key)
                opens = path in OPEN_PATHS | PAGE_PATHS
                assert found == (200 if opens else 401), (method, path, key)
        assert await status(front, "GET", "/v1/models", "secret") == 200

    run(tokenizer, test, api_key=["secret"])


def test_scopes(tokenizer: Tokenizer, key_file: Path) -> None:
    async def test(front: Frontend) -> None:
        async def found(key: str) -> tuple[int, int]:
            metrics = await status(front, "GET", "/metrics", key)
            return await status(front, "POST", CHAT, key, json=HI), metrics

        assert await found("one") == (200, 403)
        assert await found("two") == (200, 200)
        assert await found("three") == (403, 200)
        assert await found("four") == (200, 200)
        assert await found("five") == (401, 401)
        headers = {"x-api-key": "three"}
        answer = await front.client.post(CHAT, json=HI, headers=headers)
        error = answer.json()["error"]
        assert error["type"] == "permission_error" and error["code"] == "insufficient_scope"

    run(tokenizer, test, api_key_file=str(key_file))


def test_requests_carry_the_name_and_the_limits_of_their_key(
    tokenizer: Tokenizer, key_file: Path
) -> None:
    async def test(front: Frontend) -> None:
        await status(front, "POST", CHAT, "one", json={**HI, "user": "u", "cache_salt": "s"})
        submit = front.engine.submits[-1]
        assert submit.tenant == "alice" and submit.cache_salt == "alice:s"
        assert submit.quota is not None and submit.quota.requests_per_minute == 7

    run(tokenizer, test, api_key_file=str(key_file))


def test_over_its_limit_a_key_gets_429(tokenizer: Tokenizer, key_file: Path) -> None:
    async def test(front: Frontend) -> None:
        front.engine.error = ("rate_limited", "This API key is over its 7 requests per minute.")
        for path, body in ((CHAT, HI), ("/v1/messages", {**HI, "model": "", "max_tokens": 5})):
            headers = {"x-api-key": "one"}
            answer = await front.client.post(path, json=body, headers=headers)
            assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
            error = answer.json()["error"]
            assert error["type"] == "rate_limit_error" and "7 requests" in error["message"]

    run(tokenizer, test, api_key_file=str(key_file))


def test_changes_of_the_file_take_effect(tokenizer: Tokenizer, key_file: Path) -> None:
    async def test(front: Frontend) -> None:
        async def found() -> list[int]:
            front.keys.reload()
            return [await status(front, "GET", "/v1/models", key) for key in ("one", "new")]

        assert await found() == [200, 401]
        replace(key_file, '[keys.carol]\nkey = "new"\n')
        assert await found() == [401, 200]
        replace(key_file, "[keys.carol\n")
        assert await found() == [401, 200], "a broken file changes nothing"
        key_file.unlink()
        assert await found() == [401, 200]
        replace(key_file, "[keys]\n")
        assert await found() == [401, 401], "a file without keys does not open the door"
        replace(key_file, FILE)
        assert await found() == [200, 401]

    run(tokenizer, test, api_key_file=str(key_file))


@pytest.mark.parametrize("text", ["a = " + "[" * 20_000, "[keys.a]\nweight = " + "9" * 5000])
def test_a_file_that_no_reader_takes_changes_nothing(
    tokenizer: Tokenizer, key_file: Path, text: str
) -> None:
    async def test(front: Frontend) -> None:
        replace(key_file, text)
        front.keys.reload()
        assert await status(front, "GET", "/v1/models", "one") == 200

    run(tokenizer, test, api_key_file=str(key_file))


def test_the_watch_goes_on_whatever_happens(
    key_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else a key that was taken out of the file would open the door until the next start."""
    ring = KeyRing((), key_file)
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise MemoryError

    async def main() -> None:
        watching = asyncio.create_task(ring.watch())
        async with asyncio.timeout(10):
            while len(calls) < 3:
                await asyncio.sleep(0.01)
        watching.cancel()

    monkeypatch.setattr(auth, "RELOAD_INTERVAL", 0.01)
    monkeypatch.setattr(ring, "reload", fail)
    asyncio.run(main())
    assert "stay as they were" in caplog.text


def test_a_key_of_a_file_has_its_own_prefixes(tokenizer: Tokenizer, key_file: Path) -> None:
    """Also the only one: the next may be somebody else's. Tenants are its users."""
    key_file.write_text('[keys.alice]\nkey = "one"\n')

    async def test(front: Frontend) -> None:
        await status(front, "POST", CHAT, "one", json={**HI, "user": "u"})
        replace(key_file, '[keys.bob]\nkey = "two"\n')
        front.keys.reload()
        await status(front, "POST", CHAT, "two", json=HI)
        first, second = front.engine.submits
        assert (first.cache_salt, second.cache_salt) == ("alice:", "bob:")
        assert first.tenant not in ("", "alice") and second.tenant == ""

    run(tokenizer, test, api_key_file=str(key_file))


def test_a_frontend_that_starts_with_a_broken_file_lets_nobody_in(
    tokenizer: Tokenizer, key_file: Path
) -> None:
    key_file.write_text("[keys.alice")

    async def test(front: Frontend) -> None:
        assert await status(front, "GET", "/v1/models", "one") == 401
        replace(key_file, FILE)
        front.keys.reload()
        assert await status(front, "GET", "/v1/models", "one") == 200

    run(tokenizer, test, api_key_file=str(key_file))


def replace(path: Path, text: str) -> None:
    """As editors and secret stores do."""
    other = path.with_suffix(".new")
    other.write_text(text)
    os.replace(other, path)
