"""Sampling ops in plain torch, with the same noise as the kernels, bit for bit."""

from __future__ import annotations

import math

import torch

INVALID_TOKEN = -2
CHUNK = 1024
"""Neighbouring ids that are drawn from together: part of the result, so the same everywhere."""
OF_IDS, OF_CHUNKS = 0, 1
LOG2_E = math.log2(math.e)
IN_PROMPT = 1 << 30
OUTPUT_COUNT = IN_PROMPT - 1
MASK32 = 0xFFFFFFFF
PHILOX_KEY = (0x9E3779B9, 0xBB67AE85)
PHILOX_ROUND = (0xD2511F53, 0xCD9E8D57)


def sample(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    seeds: torch.Tensor,
    positions: torch.Tensor,
    *,
    random: bool,
    filtered: bool,
) -> torch.Tensor:
    """logits [n, V] -> int32[n]: one id a row.

    A row of temperature 0 takes its most likely id (the lowest of equals). Others draw from the
    softmax of their tempered and filtered logits in two steps (`_draw`), with noise that depends
    on (seed int64, position int32, id or chunk) only. Filters in vLLM's order: min_p, top_k
    (0: off), top_p on what is left; ties at a threshold stay. `random` False: every row is greedy;
    `filtered` False: no row has a filter. A row with a NaN or +inf, or with nothing above -inf,
    gives INVALID_TOKEN; a single -inf is what bans and masks write, and is never drawn.
    """
    scores = logits.float()
    invalid = ~scores.amax(-1).isfinite()  # a NaN is the largest of all
    chosen = scores.argmax(-1)
    if random:
        divisor = torch.where(temperature > 0, temperature, 1.0)[:, None]
        kept = _filter(scores, divisor, top_k, top_p, min_p) if filtered else scores
        chosen = torch.where(temperature > 0, _draw(kept, divisor, seeds, positions), chosen)
    return torch.where(invalid, INVALID_TOKEN, chosen).to(torch.int32)


def _filter(
    scores: torch.Tensor,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
) -> torch.Tensor:
    """scores [n, V], not yet divided by temperature [n, 1], with what the filters drop at -inf."""
    drop = float("-inf")
    top = scores.amax(-1, keepdim=True)
    scores = scores.masked_fill(scores < top + temperature * min_p[:, None].log(), drop)
    ordered = scores.sort(-1, descending=True).values
    last = torch.where(top_k > 0, top_k, scores.shape[1]).clamp(max=scores.shape[1]).long() - 1
    kth = ordered.gather(1, last[:, None])
    scores = scores.masked_fill(scores < kth, drop)
    ordered = ordered.masked_fill(ordered < kth, drop)
    # In float32 the sum over a vocabulary is off by more than an unlikely id's share.
    before = (ordered / temperature).softmax(-1, torch.float64).cumsum(-1).roll(1, -1)
    before[:, 0] = 0.0
    inside = before < top_p[:, None]
    threshold = ordered.masked_fill(~inside, float("inf")).amin(-1, keepdim=True)
    return scores.masked_fill((scores < threshold) & (top_p < 1.0)[:, None], drop)


def _draw(
    scores: torch.Tensor, temperature: torch.Tensor, seeds: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """int64[n]: a draw from softmax(scores [n, V] / temperature [n, 1]), exact in two steps.

    First a chunk of CHUNK neighbouring ids by its share of the mass, then an id by its share of
    the chunk: each the Gumbel-max (the arg max of log weight + Gumbel noise, Gumbel 1954), so
    only chunks and one chunk's ids need noise. The log weights are to the base 2.
    """
    num_rows, vocab = scores.shape
    missing = -vocab % CHUNK
    chunks = torch.nn.functional.pad(scores, (0, missing), value=float("-inf"))
    chunks = chunks.view(num_rows, -1, CHUNK)
    scale = (LOG2_E / temperature).clamp(max=torch.finfo(torch.float32).max)
    maxima = chunks.amax(-1)
    sums = ((chunks - _finite(maxima)[..., None]) * scale[..., None]).exp2().sum(-1)
    weights = (maxima - _finite(maxima.amax(-1, keepdim=True))) * scale + sums.log2()
    index = torch.arange(max(chunks.shape[1:]), device=scores.device)[None, :]
    noise = _noise(seeds, positions, index[:, : chunks.shape[1]], OF_CHUNKS)
    best = (weights + noise).argmax(-1, keepdim=True)
    inside = chunks.gather(1, best[..., None].expand(-1, 1, CHUNK))[:, 0]
    ids = best * CHUNK + index[:, :CHUNK]
    inside = (inside - _finite(maxima.gather(1, best))) * scale
    noisy = inside + _noise(seeds, positions, ids, OF_IDS)
    return ids.gather(1, noisy.argmax(-1, keepdim=True))[:, 0]


def _finite(values: torch.Tensor) -> torch.Tensor:
    """Infinities as 0: a reference point that keeps inf - inf out."""
    return torch.where(values.isinf(), 0.0, values)


def _noise(
    seeds: torch.Tensor, positions: torch.Tensor, index: torch.Tensor, domain: int
) -> torch.Tensor:
    """float32[n, m]: Gumbel noise / ln 2, up to a constant that no arg max sees."""
    return -torch.log2(-torch.log2(uniforms(seeds, positions, index, domain)))


def uniforms(
    seeds: torch.Tensor, positions: torch.Tensor, index: torch.Tensor, domain: int = OF_IDS
) -> torch.Tensor:
    """float32[n, m] in (0, 1): the first word of Philox-4x32-10 (Salmon et al., 2011).

    Key: the seed's low and high words; counter: (index, position, domain, 0), with `index`
    int64[n or 1, m] of ids or of chunks. The top 23 bits w of the word become
    (w + 0.5) / 2**23: never 0 or 1.
    """
    key0, key1 = (seeds & MASK32)[:, None], ((seeds >> 32) & MASK32)[:, None]
    none = index.new_zeros(len(seeds), index.shape[1])
    counter = [index + none, positions.long()[:, None] + none, none + domain, none]
    for _ in range(10):
        counter = _philox_round(counter, key0, key1)
        key0, key1 = (key0 + PHILOX_KEY[0]) & MASK32, (key1 + PHILOX_KEY[1]) & MASK32
    return ((counter[0] >> 9).float() + 0.5) * 2.0**-23


def _philox_round(
    counter: list[torch.Tensor], key0: torch.Tensor, key1: torch.Tensor
) -> list[torch.Tensor]:
    high0, low0 = _multiply(counter[0], PHILOX_ROUND[0])
    high1, low1 = _multiply(counter[2], PHILOX_ROUND[1])
    return [high1 ^ counter[1] ^ key0, low1, high0 ^ counter[3] ^ key1, low0]


def _multiply(x: torch.Tensor, constant: int) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low 32 bits of x * constant, in int64 that would overflow if done at once."""
    low_part = x * (constant & 0xFFFF)
    high_part = x * (constant >> 16)
    total = low_part + ((high_part & 0xFFFF) << 16)
    return ((high_part >> 16) + (total >> 32)) & MASK32, total & MASK32


def apply_penalties(
    logits: torch.Tensor,
    slots: torch.Tensor,
    counts: torch.Tensor,
    presence: torch.Tensor,
    frequency: torch.Tensor,
    repetition: torch.Tensor,
) -> None:
    """Penalise logits float32[n, V] in place by what each row's slot has said.

    `counts` int32[max_slots, V]: output occurrences in the low 30 bits, bit 30 set for ids of the
    prompt. Repetition divides positive and multiplies negative logits of any id that occurred;
    frequency (per occurrence) and presence (once) are subtracted for output ids. vLLM's order.
    """
    said = counts[slots.long()]
    outputs = said & OUTPUT_COUNT
    factor = torch.where(said > 0, repetition[:, None], 1.0)
    logits.copy_(torch.where(logits > 0, logits / factor, logits * factor))
    logits.sub_(frequency[:, None] * outputs)
    logits.sub_(presence[:, None] * (outputs > 0))


def apply_bitmask(logits: torch.Tensor, rows: torch.Tensor, masks: torch.Tensor) -> None:
    """Set to -inf in logits [n, V] what masks int32[m, words] of rows int64[m] do not allow.

    Bit `i % 32` of word `i // 32` stands for id i; 1 is allowed.
    """
    ids = torch.arange(logits.shape[1], device=logits.device)
    allowed = (masks[:, ids // 32] >> (ids % 32)) & 1
    logits[rows] = logits[rows].masked_fill(allowed == 0, float("-inf"))


def token_logprobs(
    logits: torch.Tensor, ids: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of logits [n, V]: (int32[n, 1+k] ids, float32[n, 1+k] logprobs, int32[n] ranks).

    Column 0 is the given id, then the k most likely; the rank is column 0's, from 1.
    """
    logprobs = logits.float().log_softmax(-1)
    own = logprobs.gather(1, ids.long()[:, None])
    ranks = (logprobs > own).sum(-1) + 1
    best = logprobs.topk(k, dim=-1)
    all_ids = torch.cat([ids.long()[:, None], best.indices], dim=1)
    return all_ids.int(), torch.cat([own, best.values], dim=1), ranks.int()
