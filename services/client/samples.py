"""A page of /metrics, and what two of them tell of the time between."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Buckets = dict[float, float]
"""Upper bound -> how many were at most so large."""


@dataclass(frozen=True)
class Page:
    """Values summed over engines and models; `facts`: the labels of cache_config_info."""

    at: float
    values: Mapping[str, float] = field(default_factory=dict)
    buckets: Mapping[str, Buckets] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    model: str = ""


def read_page(text: str, at: float) -> Page:
    """`at`: when it was asked for, in seconds. Raises ValueError for what is no such page."""
    values: defaultdict[str, float] = defaultdict(float)
    buckets: defaultdict[str, Buckets] = defaultdict(dict)
    facts: dict[str, str] = {}
    model = ""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            model = model or sample.labels.get("model_name", "")
            if sample.name.endswith("_bucket"):
                name, bound = sample.name.removesuffix("_bucket"), float(sample.labels["le"])
                buckets[name][bound] = buckets[name].get(bound, 0.0) + sample.value
            elif sample.name == "vllm:cache_config_info":
                facts = dict(sample.labels)
            else:
                values[sample.name] += sample.value
    return Page(at, dict(values), dict(buckets), facts, model)


def rate(name: str, before: Page, now: Page) -> float:
    """How much a counter grew in a second; what has begun anew counts from 0."""
    grown = now.values.get(name, 0.0) - before.values.get(name, 0.0)
    return max(grown, 0.0) / max(now.at - before.at, 1e-9)


def quantile(name: str, share: float, before: Page, now: Page) -> float | None:
    """Of what a histogram saw between two pages, linear inside its bucket; None of nothing."""
    earlier = before.buckets.get(name, {})
    seen = {
        bound: count - earlier.get(bound, 0.0)
        for bound, count in sorted(now.buckets.get(name, {}).items())
    }
    total = max(seen.values(), default=0.0)
    if total <= 0:
        return None
    low = below = 0.0
    for bound, count in seen.items():
        if count >= share * total:
            if math.isinf(bound) or count == below:
                return low
            return low + (bound - low) * (share * total - below) / (count - below)
        low, below = bound, count
    return low
