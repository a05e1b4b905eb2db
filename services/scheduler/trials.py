"""Trials: which of the requests that ran when a step failed was it?

A step that fails, or kills its worker, has harmed nobody yet: all is computed again. But a request
that does so every time would end the server. So those that were in the failed step run again a
group at a time, and meanwhile nobody else does: whatever goes wrong is the group's. A group whose
members all get a little further than where they were is acquitted; one that fails again is split;
and who fails alone is convicted. That takes some steps; to the others it is a pause. No group
begins while a step of another is in flight: were its result lost, it could be either's fault.

After a worker's first death all of them run again together, beside the others, for most deaths are
nobody's fault; a second one splits them. Groups are eighths, not halves: of 512 requests, the one
is found in three more deaths.

A scheduler that dies takes what it knew along. Frontends say how many deaths a request has
survived, the supervisor who was on trial at the last; so the next scheduler goes on from there.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection, Sequence

from octavo.services.scheduler.request import Request
from octavo.shared.messages import FURTHER

PARTS = 8
SUSPECT_AFTER = 2
"""Deaths of schedulers that a request was there at."""


class Trials:
    """`length`: how many tokens of a request there are now. `accused`: ids of those that were on
    trial when the last scheduler died."""

    def __init__(
        self, length: Callable[[Request], int], accused: Collection[bytes] = frozenset()
    ) -> None:
        self._length = length
        self._accused = accused
        self._groups: collections.deque[list[Request]] = collections.deque()
        self._bystanders: dict[Request, None] = {}
        self._survivors: list[Request] = []
        """Of schedulers, not in a group yet."""
        self._alone = False
        self.on_trial: dict[Request, None] = {}
        """Those who run, and were there when something failed; nobody else runs if `_alone`."""

    @property
    def active(self) -> bool:
        """Whether not everybody may run."""
        return bool(self._alone or self._groups or self._survivors or self._bystanders)

    def held(self) -> list[Request]:
        """Requests that may not run now."""
        groups = (one for group in self._groups for one in group)
        return [*groups, *self._survivors, *self._bystanders]

    def must_wait(self, request: Request) -> bool:
        """Take note of a request that could run; True: not now."""
        if request.is_held:
            return True
        if request.survived >= SUSPECT_AFTER:
            request.survived = 0  # from here on, it is judged by what it does
            self._survivors.append(request)
        elif self.active and request not in self.on_trial:
            self._bystanders[request] = None
        else:
            return False
        request.is_held = True
        return True

    def is_convicted(self, request: Request) -> bool:
        """Whether the last scheduler died of this one, which alone was on trial."""
        return request.survived > SUSPECT_AFTER and {request.request_id} == set(self._accused)

    def accuse(self, accused: Sequence[Request], died: bool) -> Request | None:
        """A step of these requests has failed, `died`: and its worker with it.

        Returns the one that is convicted. The others run when `go_on` says so.
        """
        for one in accused:
            self._note_failure(one)
        before, self.on_trial = self.on_trial, {}
        alone, self._alone = self._alone, False
        if len(accused) == 1 and accused[0].num_failures > 1:
            return accused[0]
        if alone:
            self._hold([one for one in before if one not in accused])
        suspects = [one for one in accused if alone or one.num_failures > died]
        self._split(suspects)
        if not suspects:
            self.on_trial = dict.fromkeys(accused)
        return None

    def is_suspect(self, request: Request) -> bool:
        """Whether it has not shown that it does no harm."""
        return self._length(request) < request.safe_len

    def is_decided(self) -> bool:
        """Whether all on trial have got further, or ended."""
        return all(one.over or not self.is_suspect(one) for one in self.on_trial)

    def acquit(self) -> list[Request]:
        """Let those on trial go. Returns them, who make room if others wait for their trial."""
        acquitted, self.on_trial = list(self.on_trial), {}
        for one in acquitted:
            one.num_failures = 0
        return acquitted

    def go_on(self) -> list[Request]:
        """Returns who may run next: all, if no group is left."""
        if not self._groups:
            self._accuse_survivors()
        group = self._groups.popleft() if self._groups else []
        self.on_trial, self._alone = dict.fromkeys(group), bool(group)
        for one in group:
            one.safe_len = self._length(one) + FURTHER
        if not group:
            group, self._bystanders = list(self._bystanders), {}
        for one in group:
            one.is_held = False
        return group

    def leave(self, request: Request) -> None:
        """A request has ended, wherever it stood."""
        if not request.is_held:
            return
        request.is_held = False
        self._bystanders.pop(request, None)
        self._survivors = [one for one in self._survivors if one is not request]
        self._groups = collections.deque(
            kept for group in self._groups if (kept := [one for one in group if one is not request])
        )

    def _note_failure(self, request: Request) -> None:
        if not self.is_suspect(request):
            request.num_failures = 0  # what failed before has since gone well
        request.num_failures += 1
        request.safe_len = self._length(request) + FURTHER

    def _accuse_survivors(self) -> None:
        """First those that were on trial when the last scheduler died."""
        survivors, self._survivors = self._survivors, []
        for accused in (False, True):
            self._split([one for one in survivors if (one.request_id in self._accused) is accused])

    def _split(self, group: Sequence[Request]) -> None:
        size = -(-len(group) // PARTS) or 1
        for start in reversed(range(0, len(group), size)):
            self._hold(group[start : start + size])

    def _hold(self, group: Sequence[Request]) -> None:
        held = [one for one in group if not one.over]
        for one in held:
            one.is_held = True
        if held:
            self._groups.appendleft(held)
