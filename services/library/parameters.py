"""The forms in which a caller may give sampling parameters."""

from __future__ import annotations

import msgspec

from octavo.shared.errors import InvalidRequest
from octavo.shared.sampling import SamplingParams


def read_sampling(given: SamplingParams) -> SamplingParams:
    """`given` as the engine will read it: one stop string is a list of one, None is no entry.

    Python does not check the types of a struct's fields, and the engine drops what it cannot
    read: so it goes over the wire's encoding here. Raises InvalidRequest.
    """
    values = msgspec.structs.asdict(given)
    values["stop"] = [given.stop] if isinstance(given.stop, str) else given.stop or []
    values["stop_token_ids"] = given.stop_token_ids or []
    values["logit_bias"] = given.logit_bias or {}
    try:
        return msgspec.msgpack.decode(msgspec.msgpack.encode(values), type=SamplingParams)
    except (msgspec.ValidationError, TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"SamplingParams: {error}") from error
