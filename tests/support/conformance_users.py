"""Conformance cases of the fields that say who the end user is, in each API's words."""

from __future__ import annotations

from conformance import BOTH, MESSAGES, RESPONSES, Case, Probe, Proof

FAIR = "shares fairly with others, where there is one key"
TENANTS = "tests/scheduler/test_tenants.py"


def names_a_tenant(name: str) -> Proof:
    async def proof(probe: Probe) -> None:
        tenants = []
        for one in ("me", "you", "me"):
            response = await probe.post(**{name: one})
            assert response.status_code == 200 and "x-octavo-ignored-fields" not in response.headers
            tenants.append(probe.submit.tenant)
        assert tenants[0] == tenants[2] != tenants[1] and all(tenants)

    return proof


async def newer_name(probe: Probe) -> None:
    """One user by either name; where both are given, the newer counts."""
    await names_a_tenant("safety_identifier")(probe)
    mine = probe.submit.tenant
    await probe.post(user="me")
    assert probe.submit.tenant == mine
    await probe.post(user="you", safety_identifier="me")
    assert probe.submit.tenant == mine


async def user_id(probe: Probe) -> None:
    for one, other in (("me", "you"), ("you", "me")):
        await probe.post(metadata={"user_id": one})
        mine = probe.submit.tenant
        await probe.post(metadata={"user_id": other})
        assert mine and probe.submit.tenant not in ("", mine)
    assert (await probe.post(metadata={"user_id": "x" * 513})).status_code == 400
    await probe.post(metadata={})
    assert not probe.submit.tenant


USERS = [
    Case(
        *("user", "up to 512 characters", FAIR),
        names_a_tenant("user"),
        ["x" * 513, 7],
        (*BOTH, RESPONSES),
        TENANTS,
    ),
    Case(
        *("safety_identifier", "up to 512 characters", "as `user`, whose newer name it is"),
        newer_name,
        ["x" * 513, 7],
        (*BOTH, RESPONSES),
        TENANTS,
    ),
    Case(
        *("metadata", "in `POST /v1/messages`: object; `user_id` up to 512 characters", FAIR),
        user_id,
        (),
        (MESSAGES,),
        TENANTS,
    ),
]
