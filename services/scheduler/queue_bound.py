"""QueueBound: how much may be here at once, and who makes room for whom.

One bound for all would let a tenant that fills it shut the others out. So each has a share of it,
by weight; what is free of it anybody may use. Where nothing is free, a request within its tenant's
share displaces those of who is most over its own, the last first, as far as they have not begun
(`newcomers`). Nobody comes to be over its share by that, so two tenants cannot displace each other
in turn.
"""

from __future__ import annotations

import numpy as np

from octavo.services.scheduler.lifecycle import Lifecycle
from octavo.services.scheduler.tenants import Floats, parts, weight_of
from octavo.shared.messages import Submit

BOUNDS = ("max_num_queued_reqs", "max_num_queued_tokens")
"""As vLLM's metrics name them; in this order they are rows of `Tenants.queue`."""


class QueueBound:
    """Of requests, and of tokens of those that wait."""

    def __init__(self, life: Lifecycle) -> None:
        self._life = life
        self._bounds = (life.limits.max_queued_requests, life.limits.max_queued_tokens)

    def refuses(self, submit: Submit) -> str | None:
        """The bound that has no room for a new request, whoever makes way."""
        for row, lacking in enumerate(self._lacking(submit)):
            if lacking > 0 and not self._is_owed(row, submit, lacking):
                return BOUNDS[row]
        return None

    def make_room(self, submit: Submit) -> None:
        """For one that is not refused. Shares are those of before: who loses all that it has is
        here no more, and would count for nothing."""
        lacking = enumerate(self._lacking(submit))
        shares = [(row, self._shares(row, submit)) for row, much in lacking if much > 0]
        for row, share in shares:
            while self._lacking(submit)[row] > 0:
                self._displace(row, share)

    def _lacking(self, submit: Submit) -> tuple[int, int]:
        """How much too much there is with this one. A prompt that would wait alone may be of any
        length."""
        requests, tokens = self._bounds
        waiting = self._life.backlog.num_tokens
        too_long = waiting + submit.prompt_len - tokens if waiting else 0
        return len(self._life.requests) + 1 - requests, too_long

    def _is_owed(self, row: int, submit: Submit, lacking: int) -> bool:
        """Whether it is within its tenant's share, choices included, and others have so much
        beyond theirs that they can give up."""
        if self._life.trials.active or not self._is_within(row, submit):
            return False
        return lacking <= float(self._surplus(row, self._shares(row, submit)).sum())

    def _is_within(self, row: int, submit: Submit) -> bool:
        tenants, weight = self._life.tenants, weight_of(submit.quota)
        had = 0.0
        if (number := tenants.number(submit.tenant)) is not None:
            had, weight = float(tenants.queue[row, number]), float(tenants.weight[number])
        more = (1, submit.prompt_len)[row] * max(submit.num_choices, 1)
        return had + more <= max(self._bounds[row] * weight // self._weights(submit), 1.0)

    def _weights(self, submit: Submit) -> float:
        """Of all tenants, its own included."""
        tenants = self._life.tenants
        is_here = tenants.number(submit.tenant) is not None
        return float(tenants.weight.sum()) + (0.0 if is_here else weight_of(submit.quota))

    def _shares(self, row: int, submit: Submit) -> Floats:
        """float64[tenants], of those that are here."""
        return parts(self._bounds[row], self._life.tenants.weight, self._weights(submit))

    def _surplus(self, row: int, shares: Floats) -> Floats:
        """float64[tenants]: what each has beyond its share, as far as it has not begun."""
        tenants = self._life.tenants
        over = np.maximum(tenants.queue[row] - shares, 0.0)
        surplus: Floats = np.minimum(over, tenants.fresh[row])
        return surplus

    def _displace(self, row: int, shares: Floats) -> None:
        life = self._life
        times = life.tenants.queue[row] / shares
        most = int((times * (self._surplus(row, shares) > 0)).argmax())
        for one in life.newcomers.take_last(most):
            life.metrics.on_rejection(BOUNDS[row])
            with life.boundary(one):
                life.turn_away(one)
