"""The generator of requests: the same ones each time, of every kind."""

from __future__ import annotations

import msgspec
from fuzz_requests import Fuzzer

from octavo.services.frontend.app import SERVED


def test_a_request_depends_on_seed_and_number_alone() -> None:
    first = [Fuzzer(3).request(number) for number in range(300)]
    again = Fuzzer(3)
    assert [again.request(number) for number in reversed(range(300))] == first[::-1]
    assert Fuzzer(4).request(0) != first[0] or Fuzzer(4).request(1) != first[1]


def test_every_route_gets_good_and_bad_bodies() -> None:
    fuzzer = Fuzzer(0)
    requests = [fuzzer.request(number) for number in range(2000)]
    for route in SERVED:
        if route.request is None:
            continue
        decoder = msgspec.json.Decoder(route.request)
        outcomes = set()
        for one in requests:
            if one.path == route.path:
                try:
                    decoder.decode(one.body)
                    outcomes.add(True)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    outcomes.add(False)
        assert outcomes == {True, False}, route.path
    assert any(one.leaves_after is not None for one in requests)
