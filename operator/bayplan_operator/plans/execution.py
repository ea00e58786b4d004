"""Carrying out the newest plan: look afresh, decide the next steps, do them, say how far it is.

`bayplan.steps` decides, the `actuator` does, `statuses` tell. Nothing is remembered here but how
long the plan has stood still, which steps were refused, and who is on the way to a node, and losing
that only costs time. Plans that a newer one has overtaken are marked so and left alone. A plan in
several objects is carried out as one.
"""

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from bayplan import steps
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import PublishedPlan
from bayplan.inference.drains import LOOK_S, DrainState
from bayplan.policy import Policy
from bayplan.steps import (
    EvictPod,
    Phase,
    Progress,
    State,
    SurgeContext,
)
from bayplan_operator.claims import Claims
from bayplan_operator.cluster.events import Events
from bayplan_operator.cluster.kube import Kube
from bayplan_operator.cluster.observation import observe
from bayplan_operator.cluster.policies import read_policy
from bayplan_operator.metrics import Metrics
from bayplan_operator.plans.actuator import Actuator
from bayplan_operator.plans.arrivals import Arrivals
from bayplan_operator.plans.budgets import budgets_over
from bayplan_operator.plans.drains import Drains
from bayplan_operator.plans.holds import Holds
from bayplan_operator.plans.memory import Decision, Plans
from bayplan_operator.plans.stall import Stall
from bayplan_operator.plans.statuses import Statuses
from bayplan_operator.plans.stragglers import Stragglers
from bayplan_operator.plans.surges import Surges

_log = structlog.get_logger()

#: Bounds of the seconds between two passes over a plan at work when no event asks for one
#: earlier, and the part of its standstill that lies between: a pass over many nodes is dear.
_MIN_PAUSE_S: Final = 0.2
_MAX_PAUSE_S: Final = 2.0
_PAUSE_PART: Final = 0.1

#: The least while the scheduler alone has something to do.
_BINDING_PAUSE_S: Final = 2.0


class Execution:
    """Carries out one plan at a time.

    Attributes:
        arrivals: Who was released and is on its way; the watch of pods is to tell it.
    """

    def __init__(  # noqa: PLR0913 - what it works with, handed down once
        self,
        kube: Kube,
        plans: Plans,
        events: Events,
        metrics: Metrics,
        *,
        claims: Claims,
        pool: Executor,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.arrivals = Arrivals(clock)
        self._kube = kube
        self._plans = plans
        self._metrics = metrics
        self._pool = pool
        self._now = now
        self._drains = Drains(kube, now=now, clock=clock)
        self._surges = Surges(kube, claims, now=now, clock=clock)
        self._stragglers = Stragglers(kube, plans, pool=pool, now=now)
        self._stall = Stall(clock)
        self._actuator = Actuator(
            *(kube, plans, events, metrics), surges=self._surges, pool=pool, now=now, clock=clock
        )
        self._refusals = self._actuator.refusals
        self._statuses = Statuses(kube, plans, metrics, now=now)
        self._holds = Holds(kube, events, metrics, pool=pool)
        self._last: Progress | None = None

    def reconcile(self) -> float | None:
        """Do one pass; return the seconds after which another one is wanted, or None."""
        self._plans.look_again()
        newest = self._plans.newest()
        if newest is None:
            return None
        pause_s = self._go_on(newest) if newest.open else None
        for entry in self._plans.overtaken():
            self._statuses.supersede(entry)
        told = self._holds.tell(newest.published)
        return pause_s if told else pause_s or _MIN_PAUSE_S

    def _go_on(self, decision: Decision) -> float:
        """Do a pass over the plan at work, unless the watch of pods tells enough."""
        published, last = decision.published, self._last
        if last is not None and self.arrivals.are_all_there(published.uid):
            self._tell(decision, steps.arrived(published.plan, last), time.monotonic())
            # If it is at work again, etcd was restored from a backup, and its pods may be nowhere.
            self.arrivals.forget()
            return _MIN_PAUSE_S
        if self.arrivals.go_on(published.uid):
            return _BINDING_PAUSE_S
        return self._pass(decision)

    def _pass(self, decision: Decision) -> float:
        """Do what can be done now for the plan at work; return when to look again, in seconds."""
        started_at = time.monotonic()
        published = decision.published
        # 1. See.
        asked = self._pool.submit(read_policy, self._kube)  # meanwhile
        budgets = budgets_over(self._kube, published.plan)
        seen = observe(
            *(self._kube, self._pool, steps.nodes_of(published.plan)),
            about={victim.uid for victim in published.plan.victims},
        )
        drains = self._drains.of(published.plan, seen.raws)
        surge = self._surges.of(published, seen.raws)
        stragglers = self._stragglers.beside(published)
        # 2. Decide.
        there = seen.snapshot.without_overdue(self._now().timestamp())
        snapshot = replace(there, budgets=budgets)
        progress = self._decide(
            *(published, snapshot, asked.result(), drains, surge),
            finished=seen.finished,
            stragglers=stragglers,
        )
        self._expect(published, progress)
        # 3. Act.
        # A pod that drains is evicted as it was seen: if it serves again, it drains again first.
        drained = {uid: seen.raws[uid] for uid in drains}
        try:
            again = self._actuator.do(progress, published, seen.raws, drained)
        except Exception:
            self.arrivals.forget()  # some may be behind their gates still
            raise
        if again or any(step.uid in self._refusals for step in progress.todo):
            self.arrivals.forget()
        # 4. Say how far it is.
        told = steps.with_refusals(published.plan, progress, self._refusals.told())
        self._tell(decision, told, started_at)
        return _MIN_PAUSE_S if again else self._pause_s(published, progress)

    def _expect(self, published: PublishedPlan, progress: Progress) -> None:
        """Wait for the pods that are left to the scheduler, if nothing else is to be done."""
        self._last = progress
        started = {r.pod for r in progress.reports if r.state is State.STARTED}
        if progress.patient or not started or not steps.is_left_to_scheduler(progress):
            self.arrivals.forget()
            return
        binds = published.plan.binds
        self.arrivals.expect(
            published.uid,
            {bind.uid: bind.node for bind in binds},
            (bind.uid for bind in binds if bind.pod in started),
        )

    def _tell(self, decision: Decision, progress: Progress, started_at: float) -> None:
        """Report how far the plan is, and log and count it where that has changed."""
        published = decision.published
        if self._statuses.report(decision, progress):
            self._count_ended(published, progress)
            _log.info(
                "plan_advanced",
                plan=published.name,
                phase=progress.phase.value,
                done=progress.done,
                total=len(progress.reports),
                steps=len(progress.todo),
                message=progress.message,
                duration_s=round(time.monotonic() - started_at, 3),
            )

    def _pause_s(self, published: PublishedPlan, progress: Progress) -> float:
        """Return the seconds until the next look at what tells us nothing by events."""
        if progress.patient and all(step.uid in self._refusals for step in progress.todo):
            return LOOK_S
        binding = steps.is_left_to_scheduler(progress)
        least = _BINDING_PAUSE_S if binding else _MIN_PAUSE_S
        part = _PAUSE_PART * self._stall.of(published.uid)
        return min(_MAX_PAUSE_S, max(least, part))

    def _count_ended(self, published: PublishedPlan, progress: Progress) -> None:
        if progress.phase is Phase.EXECUTING:
            return
        self._metrics.plans.labels(progress.phase.value).inc()
        self._metrics.plan_seconds.observe(max(0.0, self._now().timestamp() - published.created_at))

    def _decide(  # noqa: PLR0913 - all that is known
        self,
        published: PublishedPlan,
        seen: Snapshot,
        policy: Policy,
        drains: Mapping[str, DrainState],
        surge: SurgeContext,
        *,
        finished: Collection[str],
        stragglers: Collection[int],
    ) -> Progress:
        if not self._stall.knows(published.uid):
            self._actuator.begin_anew()
        look = partial(
            steps.advance,
            *(published.plan, seen, policy),
            now=self._now().timestamp(),
            drains=drains,
            surge=surge,
            denied=self._refusals.denied(),
            finished=finished,
            stragglers=stragglers,
        )
        # What has happened since the last look is no standstill, and what is given up for having
        # been waited for is nothing that has happened.
        progress = look(idle_s=0)
        # One that has drained and may not leave is not out of service until all have drained.
        stuck = any(isinstance(s, EvictPod) and s.uid in self._refusals for s in progress.todo)
        self._stall.note(published.uid, progress, drains=progress.patient and not stuck)
        idle_s = self._stall.of(published.uid)
        return look(idle_s=idle_s) if idle_s >= steps.REPLACEMENT_GRACE_S else progress
