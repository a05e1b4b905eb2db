"""Qwen2 and Qwen2.5: Llama with biases on q, k and v."""

from typing import ClassVar

from octavo.services.worker.layers.layout import Layout
from octavo.services.worker.models.llama import LlamaForCausalLM


class Qwen2ForCausalLM(LlamaForCausalLM):
    LAYOUT: ClassVar[Layout] = Layout(qkv_bias=True, out_bias=False)
