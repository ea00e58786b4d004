"""What a program of this package sees of the cluster: nodes, pods, plans and the policy.

Reflectors feed it, one for each collection; the webhook answers from it, the planner plans from it.
All access goes through one lock, held for milliseconds at most where the scheduler waits for it.
"""

import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final, TypeVar

import structlog
from kubernetes import client

from bayplan.answers import Reservations
from bayplan.api import names
from bayplan.cache import Cache
from bayplan.cluster.budgets import Budget
from bayplan.cluster.constraints import Volume
from bayplan.cluster.keys import BudgetKey, NodeName, PodKey
from bayplan.cluster.snapshot import Pod, Snapshot
from bayplan.codec import (
    DecodeError,
    PublishedPlan,
    budget_of,
    decisions,
    joined,
    node_of,
    pod_of,
    policy_of,
    published_plan_of,
    stand_in_of,
    unreadable_volume,
    volume_of,
)
from bayplan.codec.plans import sequence_in
from bayplan.policy import RESTRAINED, Policy
from bayplan.preparation import prepared
from bayplan.rules.setbacks import refused, set_aside
from bayplan.triggers import is_at_work
from bayplan_extender.reflector import STALE_S, Raw, Reflector

_log = structlog.get_logger()

T = TypeVar("T")

#: The one PackingPolicy that counts.
POLICY_NAME: Final = "default"

#: Seconds without any news of a plan after which the room that it promises is free for others:
#: whoever carries it out reports progress, or ends it, well before (`bayplan.steps`).
RESERVE_S: Final = 900.0

#: Seconds without any sign that we know of everything, after which what is known counts as stale.
#: A watch that works gives one each minute, one that is dead ends after 75 s.
SILENT_S: Final = 120.0

#: Pods of a list that are taken in at once: a few milliseconds; and the seconds between, in which
#: whoever waits for the lock gets it.
_AT_ONCE: Final = 100
_BREATH_S: Final = 0.0005

#: No promises.
_NONE: Final = Reservations()


class View:
    """Nodes, pods, plans and policy as last seen; for `planning` more.

    Only who plans needs PodDisruptionBudgets, and to know where volumes are.

    Attributes:
        plans: PackingPlan objects by name; a large plan is in several.
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
        self.current: dict[str, float] = {}
        self.listed: dict[str, float] = {}
        self.failing: dict[str, tuple[float, str]] = {}
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

    def _prepared(self, seen: Snapshot, now: float) -> Snapshot:
        budgets, volumes = tuple(self.budgets.values()), tuple(self.volumes.values())
        told = refused(self.plans.values(), now=now, cooldown_s=self.policy.cooldown_s)
        there = set_aside(replace(seen, budgets=budgets, volumes=volumes), told)
        return prepared(there, self.policy, now=now)

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

    def reflectors(self, api: client.ApiClient) -> list[Reflector]:
        """Return the threads that keep this view up to date, not yet started."""
        core, custom = client.CoreV1Api(api), client.CustomObjectsApi(api)

        def ours(plural: str) -> Callable[..., Any]:
            return lambda **arguments: custom.list_cluster_custom_object(
                names.GROUP, names.VERSION, plural, **arguments
            )

        watches = [
            Reflector("nodes", core.list_node, _Nodes(self)),
            Reflector("pods", core.list_pod_for_all_namespaces, _Pods(self)),
            Reflector("packingplans", ours("packingplans"), _Plans(self)),
            Reflector("packingpolicies", ours("packingpolicies"), _Policies(self)),
        ]
        if "poddisruptionbudgets" in self._missing:
            listed = client.PolicyV1Api(api).list_pod_disruption_budget_for_all_namespaces
            watches.append(Reflector("poddisruptionbudgets", listed, _Budgets(self)))
            volumes = core.list_persistent_volume
            watches.append(Reflector("persistentvolumes", volumes, _Volumes(self)))
        return watches

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


class _Sink:
    """Feeds one kind of object into a view."""

    kind: str

    def __init__(self, view: View) -> None:
        self._view = view

    def is_current(self, at: float) -> None:
        """Note that everything up to the instant `at` has been passed on."""
        self._view.current[self.kind] = at
        self._view.failing.pop(self.kind, None)

    def is_failing(self, since: float, why: str) -> None:
        """Note since when nothing has been passed on, and why."""
        self._view.failing[self.kind] = (since, why)


class _Nodes(_Sink):
    kind = "nodes"

    def replace(self, objects: Iterable[Raw]) -> None:
        nodes = [node for raw in objects if (node := _readable(node_of, raw)) is not None]
        with self._view.lock:
            self._view.cache.replace_nodes(nodes)
            self._view.done(self.kind)

    def change(self, event: str, raw: Raw) -> None:
        node = None if event == "DELETED" else _readable(node_of, raw)
        with self._view.lock:
            if node is None:
                self._view.cache.remove_node(NodeName(raw["metadata"]["name"]))
            else:
                self._view.cache.set_node(node)
            self._view.changed.set()


class _Pods(_Sink):
    kind = "pods"

    def replace(self, objects: Iterable[Raw]) -> None:
        seen = [(_pod(raw), str(raw["metadata"].get("uid")), _version(raw)) for raw in objects]
        pods = [pod for pod, _, _ in seen if pod is not None]
        versions = {uid: version for _, uid, version in seen}
        steps = self._view.cache.replacing_pods(pods, versions, at_once=self._view.at_once)
        while self._goes_on(steps):
            time.sleep(_BREATH_S)  # a lock goes to whoever waits for it only if we pause

    def _goes_on(self, steps: Iterator[None]) -> bool:
        """Do one step of a list; return whether there are more."""
        with self._view.lock:
            for _ in steps:
                return True
            self._view.done(self.kind)
            return False

    def change(self, event: str, raw: Raw) -> None:
        pod = None if event == "DELETED" else _pod(raw)
        meta = raw["metadata"]
        with self._view.lock:
            if pod is None:
                key = PodKey(namespace=meta["namespace"], name=meta["name"])
                self._view.cache.remove_pod(key, str(meta.get("uid", "")))
            else:
                self._view.cache.set_pod(pod, version=_version(raw))
            self._view.changed.set()


class _Budgets(_Sink):
    kind = "poddisruptionbudgets"

    def replace(self, objects: Iterable[Raw]) -> None:
        budgets = [budget for raw in objects if (budget := _readable(budget_of, raw)) is not None]
        with self._view.lock:
            self._view.budgets = {budget.key: budget for budget in budgets}
            self._view.done(self.kind)

    def change(self, event: str, raw: Raw) -> None:
        budget = None if event == "DELETED" else _readable(budget_of, raw)
        meta = raw["metadata"]
        with self._view.lock:
            self._view.budgets.pop(BudgetKey(meta["namespace"], meta["name"]), None)
            if budget is not None:
                self._view.budgets[budget.key] = budget
            self._view.changed.set()


class _Volumes(_Sink):
    kind = "persistentvolumes"

    def replace(self, objects: Iterable[Raw]) -> None:
        seen = [(raw["metadata"]["name"], _volume(raw)) for raw in objects]
        with self._view.lock:
            self._view.volumes = {name: volume for name, volume in seen if volume is not None}
            self._view.done(self.kind)

    def change(self, event: str, raw: Raw) -> None:
        volume = None if event == "DELETED" else _volume(raw)
        with self._view.lock:
            self._view.volumes.pop(raw["metadata"]["name"], None)
            if volume is not None:
                self._view.volumes[raw["metadata"]["name"]] = volume
            self._view.changed.set()


class _Plans(_Sink):
    kind = "packingplans"

    def replace(self, objects: Iterable[Raw]) -> None:
        seen = {raw["metadata"]["name"]: _readable(published_plan_of, raw) for raw in objects}
        with self._view.lock:
            self._view.plans = {name: plan for name, plan in seen.items() if plan is not None}
            self._view.numbers = {name: _number(name, plan) for name, plan in seen.items()}
            self._view.reserve()
            self._view.done(self.kind)

    def change(self, event: str, raw: Raw) -> None:
        gone, name = event == "DELETED", raw["metadata"]["name"]
        plan = None if gone else _readable(published_plan_of, raw)
        with self._view.lock:
            self._view.plans.pop(name, None)
            self._view.numbers.pop(name, None)
            if not gone:
                self._view.numbers[name] = _number(name, plan)
            if plan is not None:
                self._view.plans[name] = plan
            self._view.reserve()
            self._view.changed.set()


class _Policies(_Sink):
    kind = "packingpolicies"

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._last: Policy | None = None

    def replace(self, objects: Iterable[Raw]) -> None:
        found = [raw for raw in objects if raw["metadata"]["name"] == POLICY_NAME]
        policy = self._policy(found[0] if found else None)
        with self._view.lock:
            self._view.policy = policy
            self._view.done(self.kind)

    def change(self, event: str, raw: Raw) -> None:
        if raw["metadata"]["name"] != POLICY_NAME:
            return
        policy = self._policy(None if event == "DELETED" else raw)
        with self._view.lock:
            self._view.policy = policy
            self._view.changed.set()

    def _policy(self, raw: Raw | None) -> Policy:
        """Return what holds: where a policy cannot be read, the last one that could.

        The defaults would allow what somebody has just forbidden.
        """
        if raw is None:
            self._last = None
            return Policy()
        try:
            self._last = policy_of(raw)
        except DecodeError as error:
            kept = "nobody is disturbed" if self._last is None else "the last readable one holds"
            _log.error("policy_unreadable", error=str(error), action=kept)
        return self._last or RESTRAINED


def _number(name: str, plan: PublishedPlan | None) -> int:
    return max(sequence_in(name), plan.sequence if plan is not None else 0)


def _version(raw: Raw) -> int:
    """Return the object's resourceVersion, or 0 where it is not a number to compare by."""
    text = str(raw["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdecimal() else 0


def _pod(raw: Raw) -> Pod | None:
    """Return the pod; one on a node that cannot be read is there all the same."""
    try:
        return pod_of(raw)
    except DecodeError as error:
        _log.warning("object_unreadable", error=str(error))
        return stand_in_of(raw)


def _volume(raw: Raw) -> Volume | None:
    """Return the volume; one that cannot be read is reached from nowhere."""
    try:
        return volume_of(raw)
    except DecodeError as error:
        _log.warning("object_unreadable", error=str(error))
        return unreadable_volume(raw, error)


def _readable(decode: Callable[[Raw], T | None], raw: Raw) -> T | None:
    """Return the decoded object; one that cannot be read is logged and left out."""
    try:
        return decode(raw)
    except DecodeError as error:
        _log.warning("object_unreadable", error=str(error))
        return None
