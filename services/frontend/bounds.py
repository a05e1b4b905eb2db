"""Types of request fields, each with its bounds: what no request may exceed, whatever it asks.

A test walks all request structs: a string, list, object or number without a bound fails it. The
bounds are those of `SamplingParams` where it has them, so that one value is refused alike by the
server and by the library.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from msgspec import Meta

from octavo.shared.sampling import (
    MAX_ALLOWED_IDS,
    MAX_BAD_WORD_CHARS,
    MAX_BAD_WORDS,
    MAX_LOGIT_BIAS,
    MAX_LOGPROBS,
    MAX_N,
    MAX_STOP_BYTES,
    MAX_STOP_STRINGS,
    MAX_STOP_TOKEN_IDS,
)

MAX_TEXT = 8 * 2**20
"""Characters of one text: as many as a body has bytes."""
MAX_IDS = 2**22
MAX_MESSAGES = 4096
MAX_PARTS = 4096
MAX_DOCUMENTS = 256
MAX_TOOLS = 128
MAX_TEMPLATE_KWARGS = 64
MAX_USER_NAME = 512
MAX_CACHE_SALT = 128
MAX_CHAT_TEMPLATE = 64 * 1024
MAX_BEAMS = MAX_LOGPROBS // 2
"""A beam's step asks for the 2 n most likely tokens."""
PRIORITY_LIMIT = 2**31 - 1

Int: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Float: TypeAlias = Annotated[float, Meta(ge=-1.7e308, le=1.7e308)]
Penalty: TypeAlias = Annotated[float, Meta(ge=-2.0, le=2.0)]
Name: TypeAlias = Annotated[str, Meta(max_length=256)]
Text: TypeAlias = Annotated[str, Meta(max_length=MAX_TEXT)]
SafeId: TypeAlias = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9._:/+=@-]{1,128}(?![\s\S])", max_length=128)
]
UserName: TypeAlias = Annotated[str, Meta(max_length=MAX_USER_NAME)]
CacheSalt: TypeAlias = Annotated[
    str, Meta(max_length=MAX_CACHE_SALT, pattern=r"^[^@/\\\x00]*(?![\s\S])")
]
StopString: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_STOP_BYTES)]
BadWord: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_BAD_WORD_CHARS)]

Beams: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_N)]
Logprobs: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)]
StopStrings: TypeAlias = Annotated[list[StopString], Meta(max_length=MAX_STOP_STRINGS)]
StopIds: TypeAlias = Annotated[list[Int], Meta(max_length=MAX_STOP_TOKEN_IDS)]
AllowedIds: TypeAlias = Annotated[list[Int], Meta(min_length=1, max_length=MAX_ALLOWED_IDS)]
BadWords: TypeAlias = Annotated[list[BadWord], Meta(max_length=MAX_BAD_WORDS)]
LogitBias: TypeAlias = Annotated[
    dict[Int, Annotated[float, Meta(ge=-100.0, le=100.0)]], Meta(max_length=MAX_LOGIT_BIAS)
]
Ids: TypeAlias = Annotated[list[Int], Meta(max_length=MAX_IDS)]
PromptList: TypeAlias = Annotated[list[Text | Int | Ids], Meta(max_length=MAX_IDS)]

Json: TypeAlias = Annotated[Any, Meta(description="any JSON, within the bounds of a body")]
JsonObject: TypeAlias = Annotated[dict[Name, Json], Meta(max_length=1024)]
Scalar: TypeAlias = Text | Int | Float | bool | None
Document: TypeAlias = Annotated[dict[Name, Text], Meta(max_length=64)]
Documents: TypeAlias = Annotated[list[Document], Meta(max_length=MAX_DOCUMENTS)]
TemplateKwargs: TypeAlias = Annotated[dict[Name, Scalar], Meta(max_length=MAX_TEMPLATE_KWARGS)]

Refused: TypeAlias = Annotated[Any, Meta(description="not supported: anything but null is a 400")]
Ignored: TypeAlias = Annotated[Any, Meta(description="accepted and without effect")]
