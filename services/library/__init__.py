"""`from octavo.llm import LLM, SamplingParams`: generation without a server."""

from octavo.llm.llm import LLM
from octavo.llm.outputs import CompletionOutput, Logprob, RequestOutput
from octavo.llm.pooling import PoolingRequestOutput
from octavo.shared.grammar.request import StructuredOutputs as StructuredOutputsParams
from octavo.shared.pooling import PoolingParams
from octavo.shared.sampling import SamplingParams

__all__ = [
    "LLM",
    "CompletionOutput",
    "Logprob",
    "PoolingParams",
    "PoolingRequestOutput",
    "RequestOutput",
    "SamplingParams",
    "StructuredOutputsParams",
]
