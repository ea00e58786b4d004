"""What the planner sees of PodDisruptionBudgets."""

from dataclasses import replace
from typing import Any

import pytest
from kubernetes import client

from bayplan.answers import Reservations
from bayplan.api import names
from bayplan.cluster.keys import BudgetKey, NodeName
from bayplan.cluster.pods import Pod
from bayplan.codec import parts, plan_manifests, published_plan_of
from bayplan.plan import Bind, Certificate, Hold, Move, Reason, Rejection, Result, Verdict, plan_of
from bayplan.planner import plan
from bayplan.policy import Order
from bayplan_extender.sinks import reflectors
from bayplan_extender.view import View
from tests.builders import node, pod


def raw(allowed: int, name: str = "web") -> dict[str, Any]:
    """Return a PodDisruptionBudget over all pods of the namespace."""
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {}},
        "status": {"disruptionsAllowed": allowed},
    }


@pytest.fixture
def sinks(monkeypatch: pytest.MonkeyPatch) -> tuple[View, dict[str, Any]]:
    """Return a view and what its watches feed, by collection."""
    monkeypatch.setattr("bayplan_extender.sinks.Reflector", lambda name, _, sink: (name, sink))
    seen = View(planning=True)
    watches: Any = reflectors(seen, client.ApiClient())
    return seen, dict(watches)


def test_budgets_are_watched_where_plans_are_made(sinks: tuple[View, dict[str, Any]]) -> None:
    """A plan would be made before the budgets are known, or with those that are gone."""
    view, of = sinks
    budgets = of["poddisruptionbudgets"]
    assert "poddisruptionbudgets" in view.missing

    budgets.replace([raw(1), raw(2, "other")])
    budgets.change("MODIFIED", raw(0))
    budgets.change("DELETED", raw(2, "other"))

    assert "poddisruptionbudgets" not in view.missing
    assert {key: each.allowed for key, each in view.budgets.items()} == {
        BudgetKey("default", "web"): 0
    }


def test_a_budget_that_cannot_be_read_is_left_out(sinks: tuple[View, dict[str, Any]]) -> None:
    """One bad object would stop every plan; the eviction is rehearsed anyway."""
    view, of = sinks

    of["poddisruptionbudgets"].replace([raw(-1), raw(2, "other")])

    assert [key.name for key in view.budgets] == ["other"]


def test_a_snapshot_to_plan_on_knows_who_must_stay(sinks: tuple[View, dict[str, Any]]) -> None:
    """Evictions would be planned that are refused."""
    view, of = sinks
    view.cache.set_node(node("n"))
    view.cache.set_pod(pod("a", on="n"))
    of["poddisruptionbudgets"].replace([raw(0)])

    (seen,) = view.snapshot(now=0).pods

    assert "default/web" in seen.fixed_by


def counted(*, healthy: int) -> dict[str, Any]:
    """Return a budget that needs one healthy pod, as its controller has counted."""
    status = {
        "disruptionsAllowed": healthy - 1,
        "currentHealthy": healthy,
        "desiredHealthy": 1,
        "expectedPods": 2,
    }
    return raw(0) | {"status": status}


def running(name: str, on: str, *, ready: bool) -> dict[str, Any]:
    """Return a serving pod of ours with 4 GPUs, or one that was taken out of service."""
    owner = {"kind": "InferenceDeployment", "name": "chat", "uid": "u-chat", "controller": True}
    limits = {"nvidia.com/gpu": 4}
    return {
        "metadata": {"name": name, "namespace": "default", "uid": name, "ownerReferences": [owner]},
        "spec": {
            "schedulerName": names.SCHEDULER,
            "nodeName": on,
            "containers": [{"name": "c", "resources": {"limits": limits}}],
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


def test_a_pod_that_drains_for_a_plan_is_moved_by_the_next_one_too(
    sinks: tuple[View, dict[str, Any]],
) -> None:
    """Whenever somebody came, it would be put back into service, and drained again later."""
    view, of = sinks
    for name in ("n1", "n2"):
        view.cache.set_node(node(name))
    of["pods"].change("ADDED", running("a", "n1", ready=True))
    of["pods"].change("ADDED", running("b", "n2", ready=True))
    of["poddisruptionbudgets"].replace([counted(healthy=2)])
    view.cache.set_pod(pod("whole", gpus=8))
    (first,) = plan(view.snapshot(now=0), view.policy, clock=lambda: 0.0).plan.moves

    drains = running(first.pod.name, first.source, ready=False)
    of["pods"].change("MODIFIED", drains)
    of["poddisruptionbudgets"].change("MODIFIED", counted(healthy=1))
    view.cache.set_pod(pod("newcomer", gpus=16))
    (again,) = plan(view.snapshot(now=0), view.policy, clock=lambda: 0.0).plan.moves

    assert again == first


def test_the_webhook_watches_no_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no right to, and would never be ready."""
    monkeypatch.setattr("bayplan_extender.sinks.Reflector", lambda name, *_: name)
    seen = View()
    watches: Any = reflectors(seen, client.ApiClient())

    assert "pods" in watches
    assert "poddisruptionbudgets" not in watches
    assert "poddisruptionbudgets" not in seen.missing


def test_a_pod_on_a_node_that_cannot_be_read_keeps_its_room(
    sinks: tuple[View, dict[str, Any]],
) -> None:
    """Its node would look empty, and others be planned and bound there."""
    view, of = sinks
    view.cache.set_node(node("n"))
    container = {"name": "c", "resources": {"requests": {"cpu": "9E"}}}
    unreadable = {
        "metadata": {"name": "p", "namespace": "default", "uid": "u"},
        "spec": {"nodeName": "n", "containers": [container]},
    }

    of["pods"].replace([unreadable])
    assert not pod("new").requests.fits(view.snapshot(now=0).free()[NodeName("n")])

    of["pods"].change("MODIFIED", unreadable)
    assert not pod("new").requests.fits(view.cache.free(NodeName("n")))

    of["pods"].change("DELETED", unreadable)
    assert pod("new").requests.fits(view.cache.free(NodeName("n")))


def test_a_pin_that_cannot_be_kept_closes_no_node(sinks: tuple[View, dict[str, Any]]) -> None:
    """A pod that is never scheduled would keep every other off the node."""
    view, _ = sinks
    view.cache.set_node(node("n"))
    view.cache.set_pod(replace(pod("phantom", gpus=9, on="n"), bound=False))

    seen = view.snapshot(now=0)

    assert seen.free()[NodeName("n")] == node("n").allocatable


def objects(*actions: Bind | Move | Hold, sequence: int = 1) -> list[dict[str, Any]]:
    """Return the objects of a plan, two actions in each."""
    plan = plan_of(Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL), actions)
    made = plan_manifests(Result(plan=plan, digest="d", engine="hand"), sequence=sequence)
    for raw in made:
        raw["metadata"]["uid"] = f"uid-{raw['metadata']['name']}"
    return [*made]


def test_a_list_counts_whatever_was_seen_before(sinks: tuple[View, dict[str, Any]]) -> None:
    """After etcd was restored, pods bound since its backup would count as bound for ever."""
    view, of = sinks
    view.cache.set_node(node("n"))
    bound = running("a", "n", ready=True)
    bound["metadata"]["resourceVersion"] = "900"
    of["pods"].change("ADDED", bound)

    restored = running("a", "", ready=True)
    restored["metadata"]["resourceVersion"] = "300"
    of["pods"].replace([restored])

    assert [each.node for each in view.cache.pods().values()] == [None]
    assert view.cache.free(NodeName("n")) == node("n").allocatable


def bind(which: Pod, node_name: str) -> Bind:
    """Return a bind."""
    return Bind(pod=which.key, uid=which.uid, node=NodeName(node_name))


def test_the_room_of_all_parts_of_a_plan_is_held(
    sinks: tuple[View, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pods without a plan would take what later parts promise; or what a half-written one does."""
    monkeypatch.setattr(parts, "MAX_ACTIONS", 2)
    view, of = sinks
    pods = [pod(name, gpus=2) for name in "abc"]
    view.cache.replace_nodes([node("n1"), node("n2")])
    view.cache.replace_pods(pods)
    homes = dict(zip(pods, ("n1", "n1", "n2"), strict=True))
    first, second = objects(*(bind(p, n) for p, n in homes.items()))

    of["packingplans"].replace([first])
    assert view.newest_plan() is None
    assert not view.reservations(0.0).promises(NodeName("n1"))

    of["packingplans"].change("ADDED", second)
    held = view.reservations(0.0)
    assert [held.home(each.uid) for each in pods] == ["n1", "n1", "n2"]
    assert held.on(NodeName("n2"), view.cache).gpus == 2
    newest = view.newest_plan()
    assert newest is not None
    assert len(newest.plan.binds) == 3

    of["packingplans"].change("MODIFIED", {**first, "status": {"phase": "Completed"}})
    assert not view.reservations(0.0).promises(NodeName("n1"))


def test_of_a_plan_that_is_known_only_how_far_it_is_is_read_again(
    sinks: tuple[View, dict[str, Any]],
) -> None:
    """Its actions were read with each word about them: each step of a plan cost all of it."""
    view, of = sinks
    (raw,) = objects(bind(pod("a"), "n1"))
    raw["metadata"]["uid"] = "u"
    of["packingplans"].replace([raw])
    known = view.plans["plan-00001"]
    step = {"pod": "a", "type": "Bind", "state": "Refused", "message": "denied"}

    status = {"phase": "Failed", "steps": [step], "finishedAt": "2026-05-01T12:00:00Z"}
    of["packingplans"].change("MODIFIED", {**raw, "status": status})

    told = view.plans["plan-00001"]
    assert told.plan is known.plan
    assert told == published_plan_of({**raw, "status": status})
    of["packingplans"].change("MODIFIED", {**raw, "metadata": {**raw["metadata"], "uid": "v"}})
    assert view.plans["plan-00001"].plan is not known.plan


def test_numbers_of_plans_that_cannot_be_read_are_known(
    sinks: tuple[View, dict[str, Any]],
) -> None:
    """After a downgrade every plan would be dropped, for its name is taken."""
    view, of = sinks
    (raw,) = objects(bind(pod("a"), "n1"), sequence=2)
    newer = {"metadata": {"name": "plan-00007-part-2", "uid": "u"}, "spec": "of another version"}

    of["packingplans"].replace([raw, newer])
    assert (view.last_number, [*view.plans]) == (7, ["plan-00002"])
    of["packingplans"].change("DELETED", newer)
    assert view.last_number == 2
    of["packingplans"].change("ADDED", newer)
    assert view.last_number == 7
    by_hand = {**raw, "metadata": {"name": "by-hand", "uid": "v"}}
    by_hand["spec"] = {**raw["spec"], "sequence": 9}
    of["packingplans"].change("ADDED", by_hand)
    assert view.last_number == 9


def test_a_part_that_only_holds_ends_no_promise(
    sinks: tuple[View, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room would be given away because the last object has nothing to do."""
    monkeypatch.setattr(parts, "MAX_ACTIONS", 2)
    view, of = sinks
    why = Rejection(reason=Reason.TOO_SMALL, message="needs more")
    holds = [Hold(pod=pod(n).key, uid=f"uid-{n}", rejection=why) for n in "xyz"]

    of["packingplans"].replace(objects(bind(pod("a"), "n1"), *holds))

    assert view.reservations(0.0).home("uid-a") == "n1"


def test_the_room_for_a_moved_pod_is_held_through_news_of_its_plan(
    sinks: tuple[View, dict[str, Any]],
) -> None:
    """Each report of the operator would make the webhook forget what who left asked for."""
    view, of = sinks
    victim = pod("v", gpus=4, on="n1", owner="team")
    move = Move(
        pod=victim.key,
        uid=victim.uid,
        source=NodeName("n1"),
        target=NodeName("n2"),
        owner=victim.owner,
        priority=0,
    )
    (raw,) = objects(move)
    view.cache.replace_nodes([node("n1"), node("n2")])
    view.cache.replace_pods([victim])
    of["packingplans"].replace([raw])
    assert held(view.reservations(0.0), view) == 4

    view.cache.remove_pod(victim.key, victim.uid)
    of["packingplans"].change("MODIFIED", {**raw, "status": {"phase": "Executing"}})

    assert held(view.reservations(0.0), view) == 4


def held(promised: Reservations, view: View) -> int:
    """Return the GPUs that are held on n2."""
    return promised.on(NodeName("n2"), view.cache).gpus
