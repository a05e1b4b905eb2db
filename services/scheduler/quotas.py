"""Quotas: what each API key may have at once and in a minute.

Rates are token buckets that hold a minute's worth. Tokens are charged when they are known: the
prompt at the start, the output at the end; a bucket may so become less than empty, and the next
request waits until it is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from octavo.services.scheduler.departures import Departures
from octavo.shared.keys import Quota

MINUTE = 60.0


class Bucket:
    def __init__(self, now: float) -> None:
        self._used = 0.0
        self._time = now

    def wait(self, per_minute: int | None, now: float) -> float:
        """Seconds until there is something in it."""
        if per_minute is None:
            return 0.0
        self._used = max(0.0, self._used - (now - self._time) * per_minute / MINUTE)
        self._time = now
        return max(0.0, self._used - per_minute + 1) * MINUTE / per_minute

    def take(self, amount: float) -> None:
        self._used += amount


@dataclass
class Account:
    requests: Bucket
    tokens: Bucket
    departures: Departures = field(default_factory=Departures)
    live: int = 0


@dataclass(frozen=True)
class Refusal:
    """`retry_after`: whole seconds until it may be different."""

    message: str
    retry_after: int = 1


class Quotas:
    """Accounts by the keys' names; a quota is told anew with each request, and may change."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}

    def refusal(self, quota: Quota, now: float) -> Refusal | None:
        """Why a request may not come in now."""
        account = self._account(quota.name, now)
        if quota.max_concurrent is not None and account.live >= quota.max_concurrent:
            message = f"This API key has {quota.max_concurrent} requests in flight already."
            return Refusal(message, account.departures.wait(1, now))
        requests = account.requests.wait(quota.requests_per_minute, now)
        tokens = account.tokens.wait(quota.tokens_per_minute, now)
        if not (requests or tokens):
            return None
        limit = (
            f"{quota.requests_per_minute} requests"
            if requests
            else f"{quota.tokens_per_minute} tokens"
        )
        message = f"This API key is over its {limit} per minute."
        return Refusal(message, math.ceil(max(requests, tokens)))

    def join(self, quota: Quota, prompt_tokens: int, now: float, anew: bool = True) -> None:
        """A sequence comes in; one that is not `anew` has been charged."""
        account = self._account(quota.name, now)
        if not account.live:
            account.departures.begin(now)
        account.live += 1
        account.requests.take(1 if anew else 0)
        account.tokens.take(prompt_tokens if anew else 0)

    def leave(self, quota: Quota, output_tokens: int, now: float) -> None:
        account = self._accounts[quota.name]
        account.live -= 1
        account.departures.note(now)
        account.tokens.take(output_tokens)

    def give_back(self, quota: Quota, prompt_tokens: int) -> None:
        """One that had come in is refused after all: it has cost nothing."""
        account = self._accounts[quota.name]
        account.live -= 1
        account.requests.take(-1)
        account.tokens.take(-prompt_tokens)

    def _account(self, name: str, now: float) -> Account:
        if (account := self._accounts.get(name)) is None:
            account = self._accounts[name] = Account(Bucket(now), Bucket(now))
        return account
