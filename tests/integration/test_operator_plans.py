"""The operator on a real API server: plans are carried out.

As `operator_scene` says, plans are written and pods are bound by hand.
"""

from dataclasses import replace
from typing import Any

import pytest

from bayplan.api import names
from bayplan.cluster.keys import GangKey
from bayplan.codec import parts
from bayplan.plan import (
    Evict,
)
from e2e.cluster import eventually
from e2e.contract import watching
from e2e.stack import Stack
from tests.integration import operator_scene
from tests.integration.operator_scene import (
    UNIT_PODS,
    Object,
    User,
    await_web,
    bind,
    chat,
    condition,
    evict,
    gates,
    hold,
    move,
    pin,
    pool,
    running,
    services,
    uid,
    web,
)

nodes, operator, user = operator_scene.nodes, operator_scene.operator, operator_scene.user


def test_a_plan_in_several_objects_is_carried_out_as_one(
    user: User, nodes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing would happen, or only what one object says; or what a planner left half-written."""
    monkeypatch.setattr(parts, "MAX_ACTIONS", 2)
    user.apply(chat(replicas=2))
    second = [name.replace("-0-", "-1-", 1) for name in UNIT_PODS]
    pods = user.await_pods(UNIT_PODS + second)
    unfinished = user.publish(*(bind(pods[name], nodes[1]) for name in UNIT_PODS), dies=True)

    binds = [bind(pods[name], nodes[0]) for name in UNIT_PODS]
    plan = user.publish(*binds, *(hold(pods[name]) for name in second))

    released = user.await_pinned(*UNIT_PODS)
    assert {pin(released[name]) for name in UNIT_PODS} == {nodes[0]}
    for name in UNIT_PODS:
        user.bind(released[name])
    status = user.await_phase(plan, "Completed")
    assert status["message"] == "every step is done"
    told = [user.get("packingplan", f"{plan}-part-{n}")["status"] for n in (2, 3)]
    assert [each["phase"] for each in told] == ["Completed", "Completed"]
    reported = [step["pod"] for each in (status, *told) for step in each.get("steps", ())]
    assert sorted(reported) == sorted(f"{user.namespace}/{name}" for name in UNIT_PODS)
    user.await_phase(unfinished, "Superseded")

    def all_are_told() -> bool:
        found = user.pods()
        told = [found[name]["metadata"]["annotations"] for name in second]
        return all("has 8" in each.get(names.ANNOTATION_DECISION, "") for each in told)

    eventually(all_are_told, what="held pods know why they wait")


def test_a_plan_is_carried_out_and_the_unit_serves(user: User, nodes: tuple[str, ...]) -> None:
    """Gate, plan, pin, bind: the main path."""
    user.apply(chat())
    waiting = user.await_pods(UNIT_PODS)

    plan = user.publish(*(bind(pod, nodes[0]) for pod in waiting.values()))
    released = user.await_pinned(*UNIT_PODS)

    for name in UNIT_PODS:
        metadata = released[name]["metadata"]
        assert pin(released[name]) == nodes[0]
        assert metadata["annotations"][names.ANNOTATION_PLAN] == plan
        assert metadata["uid"] == waiting[name]["metadata"]["uid"]
        # Gate and pin are one write of the spec: in between, the pod could go anywhere.
        assert metadata["generation"] == waiting[name]["metadata"]["generation"] + 1
        user.bind(released[name])
    status = user.await_phase(plan, "Completed")
    assert (status["done"], status["total"], status["message"]) == (3, 3, "every step is done")
    assert {step["state"] for step in status["steps"]} == {"Done"}
    serving = user.await_reason("UnitsReady")
    assert condition(serving, "Scheduled") == ("True", "AllScheduled", "3 pods on nodes")
    assert (serving["ready"], serving["ratio"], serving["replicas"]) == ("1/1", "1:2", 1)


def test_a_plan_that_only_holds_is_completed_and_told_everywhere(user: User) -> None:
    """Somebody asks for what no node can ever hold."""
    user.apply(chat(pools=[pool("Prefill", gpus=16), pool("Decode", gpus=2)]))
    waiting = user.await_pods(UNIT_PODS)
    remedy = "add a node with 16 GPUs"

    plan = user.publish(*(hold(pod, remedy=remedy) for pod in waiting.values()))

    assert user.await_phase(plan, "Completed")["message"] == "nothing to do; 3 pods are held"
    status = user.await_reason("NodeTooSmall")
    shortfall = (
        "needs 16 GPUs on one node; the largest has 8; what would help: add a node with 16 GPUs"
    )
    assert condition(status, "Scheduled") == (
        "False",
        "NodeTooSmall",
        f"chat-0-decode-0: {shortfall} (2 more pods for the same reason)",
    )
    assert status["decisions"][0]["reason"] == "NodeTooSmall"

    def decided() -> bool:
        notes = [p["metadata"].get("annotations", {}) for p in user.pods().values()]
        return all(n.get(names.ANNOTATION_DECISION) == f"NodeTooSmall: {shortfall}" for n in notes)

    eventually(decided, what="each pod says why it waits")
    eventually(lambda: "UnitHeld" in user.reasons_told("chat"), what="the event UnitHeld is there")


def test_a_pod_is_moved_and_its_replacement_gets_the_planned_place(
    user: User, nodes: tuple[str, ...]
) -> None:
    """A foreign Deployment's pod: evicted, made again by its ReplicaSet, gated, released."""
    user.apply(web())
    name = eventually(lambda: next(iter(user.pods()), ""), what="the pod is there")
    user.place({name: nodes[0]})
    eventually(lambda: running(user.pods()[name]), what="the pod runs")

    plan = user.publish(move(user.pods()[name], nodes[1]))

    def replacement() -> Object | None:
        return next((p for n, p in user.pods().items() if n != name and not gates(p)), None)

    new = eventually(replacement, what="the replacement is released")
    assert new is not None
    assert pin(new) == nodes[1]
    assert new["metadata"]["annotations"][names.ANNOTATION_PLAN] == plan
    user.bind(new)
    status = user.await_phase(plan, "Completed")
    assert [step["type"] for step in status["steps"]] == ["Move"]
    eventually(lambda: "Moved" in user.reasons_told(name), what="the event Moved is there")


def serving_on(user: User, node: str, **spec: Any) -> tuple[str, list[Evict]]:  # noqa: ANN401 - JSON
    """Have chat serve on all of a node, and a pod of web wait; return its name, and chat's end."""
    user.apply(chat(**spec), web())
    user.await_reason("WaitingForPlan")
    user.place(dict.fromkeys(UNIT_PODS, node))
    user.await_reason("UnitsReady")
    pods = user.pods()
    gang = GangKey(namespace=user.namespace, name="chat-0")
    victims = [replace(evict(pods[name]), gang=gang) for name in UNIT_PODS]
    return await_web(user), victims


def test_a_unit_that_a_plan_evicts_is_drained_before(user: User, nodes: tuple[str, ...]) -> None:
    """Its requests are not cut off, and the plan says what it waits for."""
    newcomer, victims = serving_on(user, nodes[0], disruption={"drainTimeoutSeconds": 10})

    with watching(user.cluster, namespace=user.namespace, name="chat") as watch:
        plan = user.publish(bind(user.pods()[newcomer], nodes[0]), *victims)

        def draining() -> bool:
            steps = user.get("packingplan", plan).get("status", {}).get("steps", [])
            return [s["state"] for s in steps if s["type"] == "Evict"] == ["Draining"] * 3

        eventually(draining, what="the unit drains")
        assert gates(user.pods()[newcomer]), "its room is given away before it is free"
        user.bind(user.await_pinned(newcomer)[newcomer])
        user.await_phase(plan, "Completed")

    watch.assert_kept()
    assert not watch.contract.cut
    eventually(
        lambda: {"Draining", "Evicted"} <= user.reasons_told(UNIT_PODS[0]), what="events tell it"
    )


def test_a_drain_outlives_the_operator_and_ends_with_its_plan(
    user: User, operator: Stack, nodes: tuple[str, ...]
) -> None:
    """Since when and for whom stands in the cluster; a newer plan lets the unit stay."""
    silent = {"metadata": {"annotations": {"prometheus.io/port": "9"}}}
    pools = [
        {**part, "template": {**part["template"], **silent}}
        for part in (pool("Prefill", gpus=4), pool("Decode", gpus=2))
    ]
    newcomer, victims = serving_on(
        user, nodes[0], pools=pools, disruption={"drainTimeoutSeconds": 600}
    )
    user.publish(bind(user.pods()[newcomer], nodes[0]), *victims)

    def drained() -> set[tuple[str, str]]:
        found = services(user)
        assert {reason for reason, _ in found} == {"Yields"}
        return found

    before = eventually(drained, what="the unit is out of service")

    operator.kill("operator")
    operator.start("operator")
    user.apply({**chat(), "metadata": {"name": "sign-of-life"}})
    eventually(lambda: len(user.pods()) == 7, what="the operator works again")
    assert services(user) == before

    user.await_phase(user.publish(), "Completed")
    back = {"Serves"}
    eventually(lambda: {reason for reason, _ in services(user)} == back, what="it is put back")
    user.await_reason("UnitsReady")
    assert gates(user.pods()[newcomer])


def test_an_eviction_waits_for_the_disruption_budget(user: User, nodes: tuple[str, ...]) -> None:
    """The plan says who holds it up, and goes on by itself."""
    user.apply(web(), chat())
    user.await_reason("WaitingForPlan")
    name = await_web(user)
    user.place({name: nodes[0]})
    eventually(lambda: running(user.pods()[name]), what="the pod runs")
    user.apply(
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "web"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
        }
    )
    eventually(
        lambda: user.get("pdb", "web")["status"].get("expectedPods") == 1, what="the PDB counts"
    )
    user.publish(evict(user.pods()[name]), *(bind(user.pods()[n], nodes[0]) for n in UNIT_PODS))

    def blocked() -> Object:
        newest = user.cluster.read("packingplans")["items"]
        plan: Object = max(newest, key=lambda p: p["spec"]["sequence"])
        assert "status" in plan, "no pass has looked at it yet"
        assert "waits: PodDisruptionBudget" in plan["status"]["steps"][0]["message"]
        return plan

    plan = eventually(blocked, what="the plan names the budget")
    assert plan["status"]["phase"] == "Executing"
    assert name in user.pods()
    user.kubectl("delete", "pdb", "web")
    for pod in UNIT_PODS:
        user.bind(user.await_pinned(*UNIT_PODS)[pod])
    user.await_phase(plan["metadata"]["name"], "Completed")
    assert name not in user.pods()
    eventually(lambda: "Evicted" in user.reasons_told(name), what="the event Evicted is there")


def test_pods_of_one_budget_drain_only_together_and_leave_though_it_admits_nobody_then(
    user: User, nodes: tuple[str, ...]
) -> None:
    """One of two would be out of service in vain; once out, they cost it no healthy pod."""
    newcomer, victims = serving_on(user, nodes[0], disruption={"drainTimeoutSeconds": 10})
    alone = [replace(victim, gang=None) for victim in victims[:2]]
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "chat"},
        "spec": {
            "minAvailable": 2,
            "selector": {"matchLabels": {names.LABEL_DEPLOYMENT: "chat"}},
        },
    }
    user.apply(budget)

    def admits(n: int) -> bool:
        status = user.get("pdb", "chat").get("status", {})
        return bool(status.get("expectedPods") and status.get("disruptionsAllowed") == n)

    eventually(lambda: admits(1), what="the budget admits one")
    plan = user.publish(bind(user.pods()[newcomer], nodes[0]), *alone)

    def told() -> bool:
        return "admits 1 eviction now, and the plan needs 2" in str(user.get("packingplan", plan))

    eventually(told, what="the plan waits for the budget")
    assert {reason for reason, _ in services(user)} == {"Serves"}

    user.kubectl("patch", "pdb", "chat", "--type=merge", "-p", '{"spec": {"minAvailable": 1}}')
    eventually(lambda: admits(0), what="both drain, and the budget admits nobody else")
    overtaking = user.publish(bind(user.pods()[newcomer], nodes[0]), *alone)
    user.bind(user.await_pinned(newcomer)[newcomer])
    user.await_phase(overtaking, "Completed")


def test_a_newer_plan_takes_over(user: User, nodes: tuple[str, ...]) -> None:
    """Only the newest decision counts."""
    user.apply(chat())
    waiting = user.await_pods(UNIT_PODS)
    older = user.publish(*(bind(pod, nodes[0]) for pod in waiting.values()))
    user.await_pinned(*UNIT_PODS)  # and nobody binds them

    newer = user.publish()

    message = user.await_phase(older, "Superseded")["message"]
    assert message.startswith(f"{newer} took over")
    user.await_phase(newer, "Completed")


def test_a_plan_whose_world_has_moved_on_stops(user: User, nodes: tuple[str, ...]) -> None:
    """Nobody is evicted for a pod that is gone."""
    user.apply(web(), chat())
    user.await_reason("WaitingForPlan")
    name = await_web(user)
    user.place({name: nodes[0]})
    pods = user.pods()
    gone = replace(bind(pods[UNIT_PODS[0]], nodes[1]), uid="gone")

    plan = user.publish(gone, evict(pods[name]))

    status = user.await_phase(plan, "Failed")
    assert status["message"].endswith("chat-0-decode-0 is gone; a new plan follows")
    assert uid(user.pods()[name]) == uid(pods[name])
