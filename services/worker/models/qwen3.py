"""Qwen3 (dense): Llama with a norm on each head's query and key."""

from typing import ClassVar

from octavo.services.worker.layers.layout import Layout
from octavo.services.worker.models.llama import LlamaForCausalLM


class Qwen3ForCausalLM(LlamaForCausalLM):
    LAYOUT: ClassVar[Layout] = Layout(qk_norm=True)
