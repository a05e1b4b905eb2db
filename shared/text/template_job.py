"""What a frontend and its template helper (`services/templates`) say to each other.

In JSON (a tool's schema may hold numbers that msgpack cannot), in the frames of `shared/helper`:
first a `TemplateConfig`, answered with a `Rendered` once the model's template is compiled; then
each question is a `TemplateJob`, answered with a `Rendered`. A helper that dies instead ran over
its limits.
"""

from __future__ import annotations

from typing import Any

import msgspec

LEAST_CHARS = 64 << 10
BYTES_A_TOKEN = 4


class TemplateConfig(msgspec.Struct, frozen=True, kw_only=True):
    template: str | None
    """The model's own."""
    special_tokens: dict[str, str]
    max_chars: int = LEAST_CHARS
    """Of what a template may add to a prompt, beside what the messages bring."""
    cpu_seconds: float = 1.0
    """Of processor time for one prompt. Beyond it the kernel kills the helper."""
    memory_bytes: int = 256 << 20
    """Address space, all in all."""
    niceness: int = 0

    def allowed_chars(self, job_bytes: int) -> int:
        """Texts of a request may be shown more than once, and with escapes."""
        return self.max_chars + 4 * job_bytes


class TemplateJob(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One prompt to be rendered."""

    messages: list[dict[str, Any]]
    options: dict[str, Any]
    """Our own variables: tools, documents, add_generation_prompt, continue_final_message, ..."""
    kwargs: dict[str, Any] = {}
    """The client's; those that the template does not speak of are left out."""
    template: str | None = None
    """The request's own."""


class Rendered(msgspec.Struct, omit_defaults=True):
    """The prompt's `text`; or `error`, and the field that it is about."""

    text: str = ""
    error: str | None = None
    param: str | None = None


def most_chars(max_model_len: int) -> int:
    return max(LEAST_CHARS, BYTES_A_TOKEN * max_model_len)
