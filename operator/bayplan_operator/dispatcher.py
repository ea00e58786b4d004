"""The heart of the operator: what is dirty, who looks at it, and the regular look at everything.

    watch events ──handlers──▶ queue of keys ──▶ threads: Deployments | Execution | Gates
       podwatch, nodewatch           ▲
                     resync, every half minute

kopf brings the events (`handlers`), but for those of pods (`podwatch`) and nodes (`nodewatch`);
everything else is ours.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

import structlog
import urllib3
from kubernetes.client.exceptions import ApiException

from bayplan.cluster.keys import PodKey
from bayplan.plan import Action, Plan
from bayplan_operator.cluster.connection import pauses
from bayplan_operator.cluster.kube import DEPLOYMENTS, NODES, PODS, Kube, Raw, is_final
from bayplan_operator.cluster.kube import PLANS as PLANS_PATH
from bayplan_operator.cluster.nodes import Nodes
from bayplan_operator.cluster.nodewatch import watch_nodes
from bayplan_operator.deployments.podwatch import Change, watch_pods
from bayplan_operator.deployments.reconciler import Deployments
from bayplan_operator.gates import Gates
from bayplan_operator.keys import GATES, PLANS, DeploymentKey, Key
from bayplan_operator.metrics import Metrics
from bayplan_operator.plans.execution import Execution
from bayplan_operator.plans.memory import Plans
from bayplan_operator.queue import WorkQueue, in_words

_log = structlog.get_logger()

#: What is watched.
_WATCHED: Final = (PLANS_PATH, DEPLOYMENTS, NODES, PODS)

#: Seconds after which everything is looked at again, event or not.
RESYNC_S: Final = 30.0

#: Seconds for which events of one burst (a unit's pods, say) are gathered into one pass.
_GATHER_S: Final = 0.05

#: The same for pods that neither came nor went, and that are bound, say, or get ready: a unit's
#: pods do so one after the other, and a plan has nothing to do for them.
_GATHER_UNIT_S: Final = 0.2
_GATHER_PLAN_S: Final = 2.0

#: The same for plans by which gangs may be half: the next one may have a place for the rest.
_GATHER_HALVES_S: Final = 1.0

#: The same for deployments when the plan of their pods is taken up, and when it gets further: most
#: hear of pods before that. The latter only where a plan places few pods; others wait for the
#: regular look.
_GATHER_BEGUN_S: Final = 1.0
_GATHER_FURTHER_S: Final = 5.0
_FEW: Final = 50

#: The same for nodes that are in trouble: pods that are pinned there may never be bound.
_GATHER_PINS_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of an InferenceDeployment: one and the same for as long as this stays equal."""

    uid: str
    generation: int
    deleted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Who looks at which kind of key, and the threads they run on."""

    kube: Kube
    deployments: Deployments
    execution: Execution
    gates: Gates
    nodes: Nodes
    plans: Plans
    metrics: Metrics
    threads: Executor


class Dispatcher:
    """Takes events, keeps the queue, hands keys to the workers. Lives on the event loop."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._queue: WorkQueue[Key] = WorkQueue(self._work)
        # By uid too: kopf tells of each object in order, and of two under one name in any order.
        self._deployments: dict[DeploymentKey, dict[str, Asked]] = defaultdict(dict)
        self._away_s = 0.0
        self._awaits = ""
        self._progress = ("", "")
        self._unwatched: dict[str, str] = {}
        self._unready: dict[Key, str] = dict.fromkeys((PLANS, GATES), "not looked at yet")

    def unready(self) -> str:
        """Return what could not be looked at the last time, or yet, and why; "" for nothing."""
        if self._awaits:
            return f"cannot begin: {self._awaits}"
        told = (*self._unready.items(), *self._unwatched.items())
        return "; ".join(f"{key}: {why}" for key, why in told)

    async def run(self) -> None:
        """Work until cancelled, as soon as the API server answers.

        Raises:
            ApiException: What it is to work on may not be read.
        """
        version = await self._begin()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run())
            group.create_task(self._resync())
            group.create_task(self._ask_for_watches())
            kube, arrivals = self._workers.kube, self._workers.execution.arrivals
            rejections = self._workers.gates.rejections
            group.create_task(watch_pods(kube, self.pod_changed, arrivals, rejections))
            watched = watch_nodes(kube, self._workers.nodes, self.nodes_changed, version=version)
            group.create_task(watched)

    def deployment_changed(self, key: DeploymentKey, asked: Asked) -> None:
        """Look at an InferenceDeployment that was made, or of which something else is asked now.

        That its status changed is what we did ourselves, most of the time.
        """
        known = self._deployments[key]
        if known.get(asked.uid) != asked:
            known[asked.uid] = asked
            self._queue.add(key, after_s=_GATHER_S)

    def deployment_deleted(self, key: DeploymentKey, uid: str) -> None:
        """Forget the InferenceDeployment with this uid; another one may have its name by now."""
        known = self._deployments[key]
        known.pop(uid, None)
        if not known:
            del self._deployments[key]

    def pod_changed(self, owner: DeploymentKey | None, change: Change) -> None:
        """Look at what a managed pod belongs to: its deployment, and the plan at work.

        New pods of a burst are the next plan's, unless this one waits for some in the place of
        those that it moves.
        """
        if owner in self._deployments:
            urgent = change in {Change.CAME, Change.WENT}
            self._queue.add(owner, after_s=_GATHER_S if urgent else _GATHER_UNIT_S)
        if change is Change.REFUSED:
            self._queue.add(GATES, after_s=_GATHER_S)
        matters = change in {Change.WENT, Change.LAST} or (
            change is Change.CAME and self._workers.plans.awaits_replacements()
        )
        self._queue.add(PLANS, after_s=_GATHER_S if matters else _GATHER_PLAN_S)

    def plan_changed(self, raw: Raw) -> None:
        """Look at a plan, and at all that it, or the one before, may say something new about."""
        plans = self._workers.plans
        before = plans.newest_known()
        if plans.see(raw):
            self._queue.add(PLANS, rests=False)  # the planner waits for it to be taken up
            self._look_at_those_of(before, plans.newest_known())
            if plans.may_leave_partial(raw["metadata"]["name"]):
                self._queue.add(GATES, after_s=_GATHER_HALVES_S)
        self._look_at_progress()

    def plan_deleted(self, name: str, uid: str) -> None:
        """Forget a plan; what was taken out of service for it may be wanted again."""
        self._workers.plans.forget(name, uid)
        self._queue.add(PLANS)
        self._look_at_deployments()

    def nodes_changed(self) -> None:
        """Look at all deployments, and at pins: a node is in another trouble, or gone."""
        self._queue.add(GATES, after_s=_GATHER_PINS_S)
        self._look_at_deployments()

    async def _resync(self) -> None:
        while True:
            self._queue.add(PLANS)
            self._queue.add(GATES)
            self._look_at_deployments()
            await asyncio.sleep(RESYNC_S)

    async def _ask_for_watches(self) -> None:
        """Ask as often whether watches are allowed; nothing waits for that, which may take long."""
        loop = asyncio.get_running_loop()
        while True:
            self._unwatched = await loop.run_in_executor(self._workers.threads, self._try_watches)
            await asyncio.sleep(RESYNC_S)

    def _try_watches(self) -> dict[str, str]:
        """Return which collections may not be watched, and why.

        A watch would ask for ever, while passes go on with what it told before. That a server is
        away, or fails, is for the passes to say.
        """
        found: dict[str, str] = {}
        for path in _WATCHED:
            try:
                self._workers.kube.try_watch(path)
            except Exception as error:  # noqa: BLE001 - the operator is not to end with a question
                if is_final(error):
                    kind = path.rpartition("/")[2]
                    found[f"watch of {kind}"] = in_words(error)
        for kind, why in found.items():
            if kind not in self._unwatched:
                _log.error("watch_refused", kind=kind, error=why)
        return found

    def _look_at_deployments(self, *, after_s: float = _GATHER_S) -> None:
        for key in self._deployments:
            self._queue.add(key, after_s=after_s)

    def _look_at_progress(self) -> None:
        """Have those looked at that say how far the plan at work is, if it is further than it was.

        A look at each is three requests, so they are left alone where they may be many.
        """
        plans, before = self._workers.plans, self._progress
        self._progress = plans.progress_known()
        if self._progress == before or not self._progress[0]:
            return
        parts = plans.newest_known()
        if self._progress[0] != before[0]:
            self._look_at_those_of(parts, after_s=_GATHER_BEGUN_S)
            return
        placed: list[Action] = []
        for plan in parts or ():
            placed += (*plan.binds, *plan.moves)
        if len(placed) <= _FEW:
            self._look_at_makers_of(placed, after_s=_GATHER_FURTHER_S)

    def _look_at_those_of(
        self, *plans: tuple[Plan, ...] | None, after_s: float = _GATHER_S
    ) -> None:
        """Look at the deployments on whose pods these plans decide; at all, if one is not known.

        A plan comes each second, and a look at thousands of deployments takes longer than that.
        """
        decided: list[Action] = []
        for parts in plans:
            if parts is None:
                self._look_at_deployments(after_s=after_s)
                return
            for plan in parts:
                decided += (*plan.binds, *plan.holds, *plan.victims)
        self._look_at_makers_of(decided, after_s=after_s)

    def _look_at_makers_of(self, actions: Iterable[Action], *, after_s: float) -> None:
        """Look at the deployments whose pods these may be about."""
        makers = {maker for action in actions for maker in _may_have_made(action.pod)}
        for key in makers & self._deployments.keys():
            self._queue.add(key, after_s=after_s)

    async def _begin(self) -> str:
        """Read what the first passes need; while nobody answers, say so and ask again.

        Return the resourceVersion from which nodes are to be watched.

        Raises:
            ApiException: That may not be read, or is not there.
        """
        loop, waits = asyncio.get_running_loop(), pauses()
        while True:
            try:
                version = await loop.run_in_executor(self._workers.threads, self._read)
            except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
                if is_final(error):
                    raise
                why = in_words(error)
                if why != self._awaits:
                    _log.warning("start_waits", error=why, action="asked again until it answers")
                self._awaits = why
                await asyncio.sleep(next(waits))
            else:
                self._awaits = ""
                return version

    def _read(self) -> str:
        """Read nodes, and whether deployments may be read: kopf would ask for ever, and not say."""
        version = self._workers.nodes.read()
        next(self._workers.kube.pages(DEPLOYMENTS), None)
        return version

    async def _work(self, key: Key) -> float | None:
        loop = asyncio.get_running_loop()
        try:
            again_s = await loop.run_in_executor(self._workers.threads, self._try, key)
        except Exception as error:
            if key in (PLANS, GATES):
                self._unready[key] = in_words(error)
            raise
        self._unready.pop(key, None)
        if self._away_s != self._workers.gates.away_s:
            self._away_s = self._workers.gates.away_s
            self._look_at_deployments()
        return again_s

    def _try(self, key: Key) -> float | None:
        """Do one pass over `key`, in a thread; nobody hears of a `StopIteration` out of one."""
        try:
            return self._look_at(key)
        except StopIteration as error:
            raise RuntimeError("something that was looked for is not there") from error

    def _look_at(self, key: Key) -> float | None:
        """Do one pass over `key`."""
        kind = "deployment" if isinstance(key, DeploymentKey) else str(key)
        with self._workers.metrics.pass_seconds.labels(kind).time():
            if isinstance(key, DeploymentKey):
                return self._workers.deployments.reconcile(key)
            if key == PLANS:
                return self._workers.execution.reconcile()
            return self._workers.gates.reconcile()


def _may_have_made(pod: PodKey) -> Iterator[DeploymentKey]:
    """Yield the InferenceDeployments that a pod may be of by its name (`inference.slots`)."""
    for at, letter in enumerate(pod.name):
        if letter == "-":
            yield DeploymentKey(namespace=pod.namespace, name=pod.name[:at])
