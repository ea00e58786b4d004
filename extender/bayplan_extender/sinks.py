"""How the objects of each collection that is watched get into a view.

What cannot be read is logged, and what may depend on it is kept from: a pod on a node takes all of
it, a volume is reached from nowhere, and a policy is what it was before.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import structlog
from kubernetes import client

from bayplan.api import names
from bayplan.cluster.constraints import Volume
from bayplan.cluster.keys import BudgetKey, NodeName, PodKey
from bayplan.cluster.pods import Ended, Pod
from bayplan.codec import (
    DecodeError,
    PublishedPlan,
    budget_of,
    ended_member_of,
    node_of,
    pod_of,
    policy_of,
    published_plan_of,
    stand_in_of,
    unreadable_volume,
    volume_of,
)
from bayplan.codec.plans import as_far_as, sequence_in
from bayplan.policy import RESTRAINED, Policy
from bayplan_extender.reflector import Raw, Reflector
from bayplan_extender.view import View

_log = structlog.get_logger()

T = TypeVar("T")

#: The one PackingPolicy that counts.
POLICY_NAME: Final = "default"

#: Seconds between two parts of a list of pods, in which whoever waits for the lock gets it.
_BREATH_S: Final = 0.0005


def reflectors(view: View, api: client.ApiClient) -> list[Reflector]:
    """Return the threads that keep a view up to date, not yet started."""
    core, custom = client.CoreV1Api(api), client.CustomObjectsApi(api)

    def ours(plural: str) -> Callable[..., Any]:
        return lambda **arguments: custom.list_cluster_custom_object(
            names.GROUP, names.VERSION, plural, **arguments
        )

    watches = [
        Reflector("nodes", core.list_node, _Nodes(view)),
        Reflector("pods", core.list_pod_for_all_namespaces, _Pods(view)),
        Reflector("packingplans", ours("packingplans"), _Plans(view)),
        Reflector("packingpolicies", ours("packingpolicies"), _Policies(view)),
    ]
    if view.planning:
        listed = client.PolicyV1Api(api).list_pod_disruption_budget_for_all_namespaces
        watches.append(Reflector("poddisruptionbudgets", listed, _Budgets(view)))
        volumes = core.list_persistent_volume
        watches.append(Reflector("persistentvolumes", volumes, _Volumes(view)))
    return watches


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
        pods, versions, ended = list[Pod](), dict[str, int](), dict[PodKey, Ended]()
        for raw in objects:
            versions[str(raw["metadata"].get("uid"))] = _version(raw)
            if (pod := _pod(raw)) is not None:
                pods.append(pod)
            elif (member := self._ended(raw)) is not None:
                ended[_key(raw)] = member
        steps = self._taken_in(pods, versions, ended)
        while self._goes_on(steps):
            time.sleep(_BREATH_S)  # a lock goes to whoever waits for it only if we pause

    def _taken_in(
        self, pods: list[Pod], versions: dict[str, int], ended: dict[PodKey, Ended]
    ) -> Iterator[None]:
        """Take in a list in steps, each with the lock held."""
        self._view.ended = ended
        yield from self._view.cache.replacing_pods(pods, versions, at_once=self._view.at_once)

    def _goes_on(self, steps: Iterator[None]) -> bool:
        """Do one step of a list; return whether there are more."""
        with self._view.lock:
            for _ in steps:
                return True
            self._view.done(self.kind)
            return False

    def change(self, event: str, raw: Raw) -> None:
        gone, key = event == "DELETED", _key(raw)
        pod = None if gone else _pod(raw)
        member = None if gone or pod is not None else self._ended(raw)
        with self._view.lock:
            self._view.ended.pop(key, None)
            if member is not None:
                self._view.ended[key] = member
            if pod is None:
                self._view.cache.remove_pod(key, str(raw["metadata"].get("uid", "")))
            else:
                self._view.cache.set_pod(pod, version=_version(raw))
            self._view.changed.set()

    def _ended(self, raw: Raw) -> Ended | None:
        """Return what a pod of a gang is that has ended well, where that is of use to anybody."""
        return _readable(ended_member_of, raw) if self._view.planning else None


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
        plan = None if gone else _readable(self._decoded, raw)
        with self._view.lock:
            self._view.plans.pop(name, None)
            self._view.numbers.pop(name, None)
            if not gone:
                self._view.numbers[name] = _number(name, plan)
            if plan is not None:
                self._view.plans[name] = plan
            self._view.reserve()
            self._view.changed.set()

    def _decoded(self, raw: Raw) -> PublishedPlan:
        """Return the plan; of one that is known only how far it is, which most events are about."""
        known = self._view.plans.get(raw["metadata"]["name"])
        if known is not None and known.uid == raw["metadata"].get("uid"):
            return as_far_as(known, raw)
        return published_plan_of(raw)


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


def _key(raw: Raw) -> PodKey:
    return PodKey(namespace=raw["metadata"]["namespace"], name=raw["metadata"]["name"])


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
