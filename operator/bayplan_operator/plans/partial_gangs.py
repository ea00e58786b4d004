"""Calling partial gangs back whose rest waits in vain (`bayplan.partial_gangs` decides).

Gangs are looked at while pods of them wait in vain of which others may have nodes; for how long one
has been partial is all that is remembered, and losing it only costs that time.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from bayplan import partial_gangs
from bayplan.api import names
from bayplan.api.packing_plan import Refuser
from bayplan.cluster.keys import GangKey
from bayplan.cluster.pods import Ended, Pod
from bayplan.codec import DecodeError, ended_member_of, pod_of
from bayplan.codec.pods import bound_at_of, selector_of
from bayplan.partial_gangs import Member, PartialGang
from bayplan.rules import restraints
from bayplan_operator.cluster.damper import Damper
from bayplan_operator.cluster.events import About, Events
from bayplan_operator.cluster.evictions import evict
from bayplan_operator.cluster.kube import Kube, Raw, by_its_clock, pods_path
from bayplan_operator.metrics import Metrics
from bayplan_operator.plans.budgets import budgets_in
from bayplan_operator.plans.memory import Plans
from bayplan_operator.plans.recalls import Recalls

_log = structlog.get_logger()

#: Most gangs that are looked at in one pass: each is a request. The others come with the next.
_MOST: Final = 50


class PartialGangs:
    """Looks at gangs of which pods wait in vain while others have nodes."""

    def __init__(  # noqa: PLR0913 - what it works with, handed down once
        self,
        kube: Kube,
        plans: Plans,
        events: Events,
        metrics: Metrics,
        recalls: Recalls,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self._kube = kube
        self._plans = plans
        self._events = events
        self._metrics = metrics
        self._now = now
        self._clock = clock
        self._recalls = recalls
        self._damper = Damper(clock)
        self._since: dict[GangKey, float] = {}
        self._looked_at: dict[GangKey, float] = {}

    def reconcile(
        self, unbound: Sequence[Pod], stuck: Mapping[str, str], *, refused: Collection[str]
    ) -> float | None:
        """Call back who has been a partial gang for long enough.

        Return the seconds after which another one will have been, None without any.

        Args:
            unbound: All pods that are not bound.
            stuck: Why pods cannot be bound where they are pinned, by uid.
            refused: Which of them kube-scheduler refuses for a reason that no plan knows.
        """
        newest = self._plans.newest()
        held = self._plans.without_place()
        gangs = sorted(partial_gangs.suspects(unbound, held.keys(), stuck.keys()), key=str)
        looked_at = {gang: self._looked_at.get(gang, -math.inf) for gang in gangs}
        # Those that are partial already come first, so that none waits for ever.
        gangs.sort(key=lambda gang: (gang not in self._since, looked_at[gang]))
        there = {gang: self._read(gang) for gang in gangs[:_MOST]}
        seen = {
            gang: partial_gangs.partial_gang(
                read.members, held.keys(), stuck.keys(), ended=read.ended
            )
            for gang, read in there.items()
        }
        found = {gang: partial for gang, partial in seen.items() if partial.pods}
        now = self._clock()
        self._looked_at = looked_at | dict.fromkeys(seen, now)
        self._since = {gang: self._since.get(gang, now) for gang in found}
        left = {
            gang: partial_gangs.PARTIAL_S - self._age_s(gang, partial)
            for gang, partial in found.items()
        }
        for gang in (gang for gang, left_s in left.items() if left_s <= 0):
            if newest is None or self._plans.is_newest(newest.published):
                why = self._why(gang, unbound, {**held, **stuck})
                self._call_back(gang, found[gang].pods, there[gang].raws, why, refused)
        return min((left_s for left_s in left.values() if left_s > 0), default=None)

    def _age_s(self, gang: GangKey, partial: PartialGang) -> float:
        """Return for how many seconds a gang has been partial, as far as can be told.

        It may have been before we looked. The API server says since when, by its own clock.
        """
        seen_s, now = self._clock() - self._since[gang], by_its_clock(self._kube, self._now())
        return max(seen_s, now - partial.since) if partial.since else seen_s

    def _read(self, gang: GangKey) -> "_Read":
        """Return the pods of a gang; none where one cannot be read.

        Nothing of those that have failed, or were made to end: their owners make others for them.
        """
        read = _Read(raws=[], members=[], ended=[])
        try:
            for raw in self._kube.items(pods_path(gang.namespace), labels=selector_of(gang)):
                if (pod := pod_of(raw)) is not None:
                    read.raws.append(raw)
                    read.members.append(_member(pod, raw))
                elif (member := ended_member_of(raw)) is not None:
                    read.ended.append(member)
        except DecodeError:
            return _Read(raws=[], members=[], ended=[])
        return read

    def _why(self, gang: GangKey, unbound: Iterable[Pod], vain: Mapping[str, str]) -> str:
        said = (vain[pod.uid] for pod in unbound if pod.gang == gang and pod.uid in vain)
        return next(said, "there is no place for it")

    def _call_back(
        self,
        gang: GangKey,
        partial: Sequence[Pod],
        raws: Sequence[Raw],
        why: str,
        refused: Collection[str],
    ) -> None:
        """Have all of a partial gang leave, or nobody where one of them may not.

        Who is pinned goes as it was seen: it may be bound at this moment, and the gang be whole.
        """
        versions = {raw["metadata"]["uid"]: raw["metadata"]["resourceVersion"] for raw in raws}
        seen = {pod.uid: "" if pod.bound else versions[pod.uid] for pod in partial}
        if not self._may_leave(gang, partial, seen):
            return
        refusing = next((pod for pod in partial if pod.uid in refused and not pod.bound), None)
        if refusing is not None:
            why = self._recalls.note(gang, raws, refusing, by=Refuser.KUBE_SCHEDULER)
        rest = f"the rest of its gang {gang.name} waits in vain"
        note = f"{rest}, and this pod is made anew to wait with them: {why}"
        for pod in partial:
            kept = evict(self._kube, pod.key, pod.uid, version=seen[pod.uid])
            if kept is None:
                return  # gone or bound meanwhile: looked at again in the next pass
            if kept:
                _log.warning("partial_gang_kept", gang=str(gang), pod=str(pod.key), error=kept)
                continue
            self._metrics.victims.labels("evicted").inc()
            self._events.tell(About.pod(pod.key, pod.uid), "Evicted", "Evict", note)
            _log.info("partial_gang_called_back", gang=str(gang), pod=str(pod.key), reason=why)

    def _may_leave(self, gang: GangKey, partial: Sequence[Pod], seen: Mapping[str, str]) -> bool:
        """Return whether all of them may leave: each by itself, and all at once.

        A rehearsal takes nothing off a budget: one that admits each alone may not admit them all.
        """
        for pod in partial:
            kept = evict(self._kube, pod.key, pod.uid, version=seen[pod.uid], rehearse=True)
            if kept:
                self._tell_kept(gang, kept, pod=str(pod.key))
            if kept != "":
                return False
        short = restraints.shortage(budgets_in(self._kube, {gang.namespace}), partial)
        if short:
            self._tell_kept(gang, short)
        return not short

    def _tell_kept(self, gang: GangKey, why: str, **about: str) -> None:
        """Log why a gang stays half, not in each look: a budget may keep it for days."""
        if self._damper.is_news(str(gang), "kept"):
            _log.warning("partial_gang_kept", gang=str(gang), error=why, **about)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """The pods of one gang, with the objects of those that have not ended."""

    raws: list[Raw]
    members: list[Member]
    ended: list[Ended]


def _member(pod: Pod, raw: Raw) -> Member:
    annotations = raw["metadata"].get("annotations") or {}
    return Member(pod=pod, bound_at=bound_at_of(raw), planned=names.ANNOTATION_PLAN in annotations)
