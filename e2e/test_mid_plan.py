"""What happens to a plan half way: a budget that begins to refuse, a node or a window that is gone.

One pod leaves at a time, and a finalizer keeps the first one, so that the plan stands where the
test wants it. And a cooldown that ends, for which a pod waits.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from functools import partial

import pytest

from e2e import fleet_scene, story
from e2e.cluster import add_gpu_nodes, eventually
from e2e.fleet_scene import ALWAYS, NEVER, SETTLED_S, Object, User, deployment

nodes, stack, user = fleet_scene.nodes, fleet_scene.stack, fleet_scene.user

#: What keeps a pod that was told to leave.
_HOLD = "example.com/hold"

#: Seconds of a cooldown, and after it within which a plan is made: the planner looks anyhow twice a
#: minute.
_COOLDOWN_S = 30
_PROMPT_S = 10


@pytest.fixture(autouse=True)
def one_by_one(user: User) -> Iterator[None]:
    """Have one pod leave at a time; let go whoever is held."""
    user.policy(maxParallelMoves=1)
    yield
    user.policy(maxParallelMoves=10, cooldownSeconds=600)
    user.cluster.kubectl_run("uncordon", *user.nodes)
    for raw in _pods(user):
        if _HOLD in raw["metadata"].get("finalizers", ()):
            _release(user, raw)


def test_a_finalizer_is_named_and_a_budget_that_begins_to_refuse_is_waited_for(user: User) -> None:
    """The rest of a plan would leave past its budget, or nobody would know what it waits for."""
    plan, held = _stopped_half_way(user)
    told = partial(_steps, user, plan)
    hangs = f"finalizer {_HOLD}"
    eventually(lambda: hangs in told(), what="the finalizer is named", timeout_s=SETTLED_S)

    small = {"key": "app", "operator": "In", "values": [f"small{n}" for n in range(4)]}
    budget = {"minAvailable": 4, "selector": {"matchExpressions": [small]}}
    kind = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "late"}}
    user.apply({**kind, "spec": budget})
    eventually(partial(_counted, user), what="the budget is counted", timeout_s=SETTLED_S)
    _release(user, held)
    refused = f"PodDisruptionBudget {user.namespace}/late admits no eviction now"
    eventually(lambda: refused in told(), what="the budget is named", timeout_s=SETTLED_S)

    user.cluster.kubectl_run("delete", "pdb", "late", "-n", user.namespace)
    user.await_phases(big={"Running": 2})


def test_a_target_that_is_deleted_half_way_ends_the_plan_and_another_follows(user: User) -> None:
    """A pod would leave for a home that is not there any more."""
    plan, held = _stopped_half_way(user)
    (later,) = [m for m in _moves(user, plan) if m["pod"]["uid"] != held["metadata"]["uid"]]
    user.cluster.kubectl_run("delete", "node", later["node"])
    try:
        lost = f"cannot go to {later['node']}: the node is gone"
        eventually(
            lambda: lost in _steps(user, plan), what="the lost node is named", timeout_s=SETTLED_S
        )
        _release(user, held)
        eventually(
            lambda: _status(user, plan)["phase"] in {"Failed", "Superseded"},
            what="the plan has ended",
            timeout_s=SETTLED_S,
        )
        assert lost in json.dumps(_status(user, plan))
        user.await_phases(big={"Running": 2})
    finally:
        add_gpu_nodes(user.cluster, names=[later["node"]])


def test_a_window_that_closes_half_way_leaves_the_others_where_they_are(user: User) -> None:
    """Pods would be moved for hours after the window that the administrator named."""
    user.scatter(2, terminationGracePeriodSeconds=1)
    _hold_all(user)
    user.policy(defragmentation=ALWAYS)
    held = eventually(partial(_held, user), what="one leaves", timeout_s=SETTLED_S)
    plan = user.plans("Defragment")[-1]["metadata"]["name"]
    assert len(_moves(user, plan)) == 3

    user.policy(defragmentation=NEVER)
    given_up = "stays: the window for defragmentation has closed"
    eventually(
        lambda: _steps(user, plan).count(given_up) == 2,
        what="two moves are given up",
        timeout_s=SETTLED_S,
    )
    _release(user, held)
    eventually(
        lambda: _status(user, plan)["phase"] == "Completed",
        what="what has begun is finished",
        timeout_s=SETTLED_S,
    )
    assert "2 moves that had not begun were given up" in _status(user, plan)["message"]
    user.await_phases(**{f"small{n}": {"Running": 1} for n in range(4)})
    assert sorted(user.free().values()) == [4, 6, 6, 8]


def test_who_waits_for_a_cooldown_is_placed_when_it_ends(user: User) -> None:
    """It would wait on until something else happens in the cluster."""
    user.policy(maxParallelMoves=10, cooldownSeconds=_COOLDOWN_S)
    two = user.nodes[:2]
    for node, name in zip(two, ("small0", "small1"), strict=True):
        user.cluster.kubectl_run("cordon", *user.nodes)
        user.cluster.kubectl_run("uncordon", node)
        user.apply(deployment(name, 2))
        user.await_phases(**{name: {"Running": 1}})
    user.cluster.kubectl_run("uncordon", *two)
    user.apply(deployment("big", 8))
    user.await_phases(big={"Running": 1}, small0={"Running": 1}, small1={"Running": 1})
    (big,) = [p.node for p in story.pods(user.cluster, user.namespace) if p.name.startswith("big")]
    other = next(node for node in two if node != big)
    user.delete("big")
    again = deployment("again", 8)
    again["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": other}

    user.apply(again)

    eventually(
        lambda: any("wait until" in told for told in user.decisions("again")),
        what="it is told until when it waits",
        timeout_s=SETTLED_S,
    )
    (moved,) = [p for p in _pods(user) if "bayplan.dev/replaces" in p["metadata"]["annotations"]]
    ends_at = _instant(moved["status"]["startTime"]) + _COOLDOWN_S
    user.await_phases(again={"Running": 1}, small0={"Running": 1}, small1={"Running": 1})
    plan = [p for p in user.plans("PlaceFirst") if p["spec"]["counts"]["moved"]][-1]
    made_at = _instant(plan["metadata"]["creationTimestamp"])
    assert ends_at <= made_at < ends_at + _PROMPT_S


def _stopped_half_way(user: User) -> tuple[str, Object]:
    """Have a plan move two pods one after the other, and stop at the first; return both."""
    user.scatter(2, terminationGracePeriodSeconds=1)
    _hold_all(user)
    user.apply(deployment("big", 8, replicas=2, gang=True, priority="online"))
    held = eventually(partial(_held, user), what="one leaves", timeout_s=SETTLED_S)
    plan = user.plans("PlaceFirst")[-1]["metadata"]["name"]
    assert len(_moves(user, plan)) == 2
    return plan, held


def _hold_all(user: User) -> None:
    """Put a finalizer on all pods there are."""
    for raw in _pods(user):
        _patch(user, raw, {"metadata": {"finalizers": [_HOLD]}})


def _held(user: User) -> Object:
    """Return the one that is leaving; the others are held no more."""
    (leaves,) = [raw for raw in _pods(user) if "deletionTimestamp" in raw["metadata"]] or [{}]
    for raw in _pods(user) if leaves else ():
        if raw["metadata"]["uid"] != leaves["metadata"]["uid"]:
            _release(user, raw)
    return leaves


def _release(user: User, raw: Object) -> None:
    _patch(user, raw, {"metadata": {"finalizers": None}})


def _patch(user: User, raw: Object, patch: Object) -> None:
    where = ("-n", user.namespace, "--type=merge", "-p", json.dumps(patch))
    user.cluster.kubectl_run("patch", "pod", raw["metadata"]["name"], *where)


def _pods(user: User) -> list[Object]:
    """Return all pods, those that are leaving too."""
    found: list[Object] = user.cluster.read("pods", namespace=user.namespace)["items"]
    return found


def _plan(user: User, name: str) -> Object:
    return next(p for p in story.plans(user.cluster) if p["metadata"]["name"] == name)


def _moves(user: User, name: str) -> list[Object]:
    return [a for a in _plan(user, name)["spec"]["actions"] if a["type"] == "Move"]


def _status(user: User, name: str) -> Object:
    found: Object = _plan(user, name).get("status", {})
    return found


def _steps(user: User, name: str) -> str:
    """Return what is said of the steps of a plan."""
    return "\n".join(step["message"] for step in _status(user, name).get("steps", ()))


def _counted(user: User) -> bool:
    status = story.get(user.cluster, "pdb/late", namespace=user.namespace).get("status", {})
    return "observedGeneration" in status


def _instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
