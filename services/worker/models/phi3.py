"""Phi-3, Phi-3.5 and Phi-4: Llama with fused weights, partial rotation and LongRoPE."""

from typing import ClassVar

from octavo.services.worker.layers.layout import Layout
from octavo.services.worker.models.llama import LlamaForCausalLM


class Phi3ForCausalLM(LlamaForCausalLM):
    LAYOUT: ClassVar[Layout] = Layout(
        qkv=("qkv_proj",), gate_up=("gate_up_proj",), qkv_bias=False, out_bias=False
    )
