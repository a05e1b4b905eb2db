"""One prompt rendered, in whatever process."""

from __future__ import annotations

from octavo.shared.errors import ConfigError, InvalidRequest
from octavo.shared.text.chat_template import ChatTemplate
from octavo.shared.text.template_job import Rendered, TemplateConfig, TemplateJob

NO_TEMPLATE = "This model has no chat template."


def own_template(config: TemplateConfig) -> ChatTemplate | None:
    if config.template is None:
        return None
    return ChatTemplate(config.template, config.special_tokens)


def rendered_of(
    job: TemplateJob, own: ChatTemplate | None, config: TemplateConfig, job_bytes: int
) -> Rendered:
    try:
        template = own if job.template is None else _compiled(job.template, config)
        if template is None:
            raise InvalidRequest(NO_TEMPLATE, param="messages")
        kwargs = {name: job.kwargs[name] for name in job.kwargs if name in template.names}
        options = {**kwargs, **job.options}
        return Rendered(template.render(job.messages, options, config.allowed_chars(job_bytes)))
    except InvalidRequest as error:
        return Rendered(error=error.message, param=error.param)


def _compiled(source: str, config: TemplateConfig) -> ChatTemplate:
    try:
        return ChatTemplate(source, config.special_tokens)
    except ConfigError:
        raise InvalidRequest(
            "chat_template is not a valid Jinja template.", param="chat_template"
        ) from None
