"""What a program of this package sees of the cluster: nodes, pods, plans and the policy.

Reflectors feed it through `sinks`, one for each collection; the webhook answers from it, the
planner plans from it. All access goes through one lock, held for milliseconds at most where the
scheduler waits for it.
"""

import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from bayplan.answers import Reservations
from bayplan.cache import Cache
from bayplan.cluster.budgets import Budget
from bayplan.cluster.constraints import Volume
from bayplan.cluster.keys import BudgetKey, PodKey
from bayplan.cluster.pods import Ended
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import PublishedPlan, decisions, joined
from bayplan.policy import Policy
from bayplan.preparation import prepared
from bayplan.rules import admission, recalls, restraints
from bayplan.triggers import is_at_work
from bayplan_extender.reflector import STALE_S

#: Seconds without any news of a plan after which the room that it promises is free for others:
#: whoever carries it out reports progress, or ends it, well before (`bayplan.steps`).
RESERVE_S: Final = 900.0

#: Seconds without any sign that we know of everything, after which what is known counts as stale.
#: A watch that works gives one each minute, one that is dead ends after 75 s.
SILENT_S: Final = 120.0

#: Pods of a list that are taken in at once: a few milliseconds.
_AT_ONCE: Final = 100

#: No promises.
_NONE: Final = Reservations()


class View:
    """Nodes, pods, plans and policy as last seen; for `planning` more.

    Only who plans needs PodDisruptionBudgets, and to know where volumes are and who has ended.

    Attributes:
        planning: Whether it is for who plans.
        plans: PackingPlan objects by name; a large plan is in several.
        ended: The pods of gangs that have ended well.
        numbers: The number of the plan of each PackingPlan object, readable or not, by name.
        lock: Hold it while reading any of these, `cache` or `policy`.
        changed: Set after every change; whoever waits on it clears it.
        current: Until when we know of everything that happened, by kind (clock's seconds).
        listed: When the whole collection was last listed, by kind (clock's seconds).
        failing: Since when nothing is heard of a kind (clock's seconds), and why.
        at_once: Pods of a list that are taken in with the lock held. Who plans is not to see half
            a list; who answers the scheduler is not to keep it waiting.
    """

    def __init__(
        self, *, planning: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.lock = threading.Lock()
        self.changed = threading.Event()
        self.cache = Cache()
        self.plans: dict[str, PublishedPlan] = {}
        self.numbers: dict[str, int] = {}
        self.policy = Policy()
        self.budgets: dict[BudgetKey, Budget] = {}
        self.volumes: dict[str, Volume] = {}
        self.ended: dict[PodKey, Ended] = {}
        self.current: dict[str, float] = {}
        self.listed: dict[str, float] = {}
        self.failing: dict[str, tuple[float, str]] = {}
        self.planning = planning
        self.at_once = sys.maxsize if planning else _AT_ONCE
        self._clock = clock
        self._reservations = _NONE
        self._reserved_by: tuple[PublishedPlan, ...] = ()
        self._promised: tuple[str, ...] = ()
        self._reserved_at = 0.0
        self._missing = {"nodes", "pods", "packingplans", "packingpolicies"}
        self._missing |= {"poddisruptionbudgets", "persistentvolumes"} if planning else set()

    @property
    def synced(self) -> bool:
        """Whether every collection has been listed once."""
        return not self._missing

    @property
    def missing(self) -> tuple[str, ...]:
        """The collections that have not been listed yet."""
        return tuple(sorted(self._missing))

    def stale(self) -> tuple[str, ...]:
        """Return of which collections nothing is heard any more, for how long and why, in words."""
        now = self._clock()
        failing, current = dict(self.failing), dict(self.current)
        told = {
            kind: f"{kind} for {now - since:.0f} s: {why}"
            for kind, (since, why) in failing.items()
            if now - since >= STALE_S
        }
        silent = {
            kind: f"{kind} for {now - at:.0f} s: the watch is silent"
            for kind, at in current.items()
            if now - at >= SILENT_S
        }
        return tuple(text for _, text in sorted((silent | told).items()))

    def snapshot(self, now: float) -> Snapshot:
        """Return what a plan made at `now` (seconds since the epoch) is to decide on."""
        return self._prepared(self.cache.snapshot().once_left(now), now)

    def before_leaving(self, now: float) -> Snapshot | None:
        """Return the same as long as nobody who is leaving has left; None if nobody is."""
        seen = self.cache.snapshot()
        return None if seen.once_left(now) is seen else self._prepared(seen, now)

    def next_instant(self, snapshot: Snapshot, now: float) -> float:
        """Return when a plan made of `snapshot` could be another, though nothing has happened.

        In seconds since the epoch: what keeps somebody for a while is over then. Infinite if
        nothing does.
        """
        plans, cooldown_s = self.plans.values(), self.policy.cooldown_s
        return min(
            restraints.next_end(snapshot, cooldown_s=cooldown_s),
            admission.next_end(plans, now=now, cooldown_s=cooldown_s),
            recalls.next_try(recalls.standing(plans, now=now).values(), now=now),
        )

    def _prepared(self, seen: Snapshot, now: float) -> Snapshot:
        budgets, volumes = tuple(self.budgets.values()), tuple(self.volumes.values())
        ended = tuple(self.ended.values())
        there = replace(seen, budgets=budgets, volumes=volumes, ended=ended)
        return prepared(there, self.policy, plans=self.plans.values(), now=now)

    @property
    def last_number(self) -> int:
        """The highest number of a plan, be it of another version and not readable; 0 if none."""
        return max(self.numbers.values(), default=0)

    def newest_plan(self) -> PublishedPlan | None:
        """Return the plan with the highest sequence, or None."""
        pages = self._newest_pages()
        return joined(pages) if pages else None

    def newest_page(self) -> PublishedPlan | None:
        """Return the first object of that plan, which tells its age and phase, without the rest."""
        return next(iter(self._newest_pages()), None)

    def _newest_pages(self) -> tuple[PublishedPlan, ...]:
        return next(reversed(decisions(self.plans.values())), ())

    def done(self, kind: str) -> None:
        """Note that `kind` has been listed."""
        self._missing.discard(kind)
        self.listed[kind] = self._clock()
        self.changed.set()

    def expire(self, now: float) -> None:
        """End the assumptions whose deadline has passed, as far as the watch has come.

        While the watch lags behind, a pod that counts as lost may be on its node already.
        """
        self.cache.expire(min(now, self.current.get("pods", -math.inf)))

    def reserve(self) -> None:
        """Hold the room that the newest plan promises while it is being carried out.

        What is known of the promises (`Reservations`) outlives news of how far the plan is.
        """
        pages = self._newest_pages()
        if pages == self._reserved_by:
            return
        at_work = any(is_at_work(replace(page, phase=pages[0].phase)) for page in pages)
        promised = tuple(page.uid for page in pages) if at_work else ()
        if promised != self._promised:
            self._reservations = Reservations(joined(pages).plan) if promised else _NONE
        self._reserved_by, self._promised, self._reserved_at = pages, promised, self._clock()

    def reservations(self, now: float) -> Reservations:
        """Return the promises of the newest plan that hold at the instant `now`."""
        return self._reservations if now - self._reserved_at < RESERVE_S else _NONE
