"""The ratio contract on a real control plane: watched all the time, whatever happens.

`BAYPLAN_CHAOS_SECONDS` says how long the chaos lasts (default 60; 300 in `make long`), and
`BAYPLAN_CHAOS_SEED` repeats it.
"""

import json
import os
import secrets
import time

from e2e import serving_scene, story
from e2e.chaos import MOST_UNITS, SURGE, Chaos
from e2e.cluster import eventually, remove_gpu_nodes
from e2e.contract import watching
from e2e.history import recorded
from e2e.serving import SETTLED_S, User, mark_unhealthy
from e2e.serving_scene import AddNodes
from e2e.stack import Stack

stack, add_nodes, user = serving_scene.stack, serving_scene.add_nodes, serving_scene.user

_CHAOS_S = float(os.environ.get("BAYPLAN_CHAOS_SECONDS", "60"))
_SEED = os.environ.get("BAYPLAN_CHAOS_SEED") or secrets.token_hex(4)

#: Seconds from one blow to the next.
_PAUSE_S = 1.5


def test_scaling_goes_by_whole_units_and_cuts_nobody_off(user: User, add_nodes: AddNodes) -> None:
    """1, 8 and 2 units, and a rollout that is scaled on its way."""
    add_nodes(8)
    user.apply("one", replicas=1)
    user.await_units(1)

    with watching(user.cluster, namespace=user.namespace, name="chat") as watch:
        watch.expect(serving=1, units=8)
        user.scale(8)
        user.await_units(8)

        watch.expect(serving=2, units=8)
        user.scale(2)
        user.await_units(2)
        assert watch.contract.fewest == 2

        watch.expect(serving=1, units=5)
        user.apply("two", replicas=2)
        eventually(
            lambda: user.units()["updated"] > 0, what="the rollout has begun", timeout_s=SETTLED_S
        )
        user.scale(4)
        user.await_units(4)

    watch.assert_kept()
    assert not watch.contract.cut


def test_a_rollout_on_a_full_cluster_completes_and_never_breaks_the_contract(
    user: User, add_nodes: AddNodes
) -> None:
    """No GPU is free for a surge, so that units go one by one; it is undone, paused, resumed."""
    nodes = add_nodes(2)
    user.apply("one")
    first = user.await_units(2)
    assert set(story.free_gpus(user.cluster, nodes).values()) == {0}

    with watching(user.cluster, namespace=user.namespace, name="chat") as watch:
        watch.expect(serving=1, units=3)
        user.apply("two")
        second = user.await_units(2)

        # Undone when half of it is done: the unit that still runs the second one is kept.
        user.apply("three")
        _await_updated(user, 1)
        user.apply("two")
        again = user.await_units(2)

        # Paused when half of it is done: the other half stays as it is.
        user.apply("four", start_s=5, rollout={"maxSurge": 0})
        _await_updated(user, 1)
        user.apply("four", start_s=5, rollout={"maxSurge": 0, "paused": True})
        eventually(lambda: _is_paused(user), what="both units serve", timeout_s=SETTLED_S)
        user.apply("four", start_s=5)
        user.await_units(2)

    watch.assert_kept()
    assert not watch.contract.cut
    assert watch.contract.fewest == 1
    assert second["revision"] != first["revision"]
    assert again["revision"] == second["revision"]


def test_a_drained_node_is_left_once_a_replacement_serves(user: User, add_nodes: AddNodes) -> None:
    """A PodDisruptionBudget that admits nothing holds `kubectl drain` until the unit has moved."""
    add_nodes(3)
    user.apply("one")
    user.await_units(2)
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "chat"},
        "spec": {
            "minAvailable": 9,
            "selector": {"matchLabels": {"bayplan.dev/deployment": "chat"}},
        },
    }
    story.apply(user.cluster, budget, namespace=user.namespace)
    node = min(user.nodes())

    with watching(user.cluster, namespace=user.namespace, name="chat") as watch:
        watch.expect(serving=2, units=3)
        user.cluster.kubectl_run("drain", node, "--timeout=90s")
        assert node not in user.nodes()
        user.await_units(2)

    watch.assert_kept()
    assert not watch.contract.cut


def test_a_unit_on_a_broken_gpu_is_replaced(user: User, add_nodes: AddNodes) -> None:
    """Beside it where there is room; where there is none, one unit at a time and no more."""
    nodes = add_nodes(3)
    user.apply("one")
    user.await_units(2)

    with watching(user.cluster, namespace=user.namespace, name="chat") as watch:
        watch.expect(serving=2, units=3)
        first = min(user.nodes())
        mark_unhealthy(user.cluster, first)
        eventually(lambda: first not in user.nodes(), what="the node is left", timeout_s=SETTLED_S)
        user.await_units(2)

        # No room is left now, and a checker gone mad calls every node broken.
        watch.expect(serving=1, units=3)
        for node in set(nodes) - {first}:
            mark_unhealthy(user.cluster, node)
        eventually(lambda: user.units()["ready"] == 1, what="one unit goes", timeout_s=SETTLED_S)
        add_nodes(2)
        eventually(
            lambda: not user.nodes() & set(nodes), what="the nodes are left", timeout_s=SETTLED_S
        )
        user.await_units(2)

    watch.assert_kept()


def test_lost_nodes_and_killed_pods_cost_one_unit_for_a_while(
    user: User, add_nodes: AddNodes
) -> None:
    """What is lost is made again inside its unit; the other unit serves on."""
    nodes = add_nodes(3)
    user.apply("one")
    user.await_units(2)

    with watching(user.cluster, namespace=user.namespace, name="chat") as watch:
        watch.expect(serving=1, units=2)
        user.kubectl("delete", "pod", "chat-0-decode-1", "--grace-period=0", "--force")
        user.await_units(2)

        failed = json.dumps({"status": {"phase": "Failed"}})
        before = {pod.name: pod.uid for pod in user.pods()}
        patch = ("--subresource=status", "--type=merge", f"--patch={failed}")
        user.kubectl("patch", "pod", "chat-1-prefill-0", *patch)
        eventually(
            lambda: _changed(user, before) == {"chat-1-prefill-0"},
            what="the failed pod is made anew",
            timeout_s=SETTLED_S,
        )
        user.await_units(2)

        lost = min(user.nodes())
        remove_gpu_nodes(user.cluster, names=[lost])
        eventually(
            lambda: lost not in user.nodes(), what="its pods are given up", timeout_s=SETTLED_S
        )
        user.await_units(2)

    assert user.nodes() == set(nodes) - {lost}
    watch.assert_kept()


def test_lower_units_give_way_whole_and_come_back_and_nothing_is_left_behind(
    user: User, add_nodes: AddNodes
) -> None:
    """A surge of priority takes two of three units; and they return."""
    add_nodes(3)
    vip = User(cluster=user.cluster, namespace=user.namespace, name="vip")
    user.apply("one", replicas=3, minReplicas=1, priorityClassName="batch")
    user.await_units(3)

    with watching(user.cluster, namespace=user.namespace, name="chat") as watch:
        watch.expect(serving=1, units=3)
        vip.apply("one", priorityClassName="online")
        vip.await_units(2)
        eventually(lambda: user.units()["ready"] == 1, what="one unit is left", timeout_s=SETTLED_S)
        assert user.condition("Ready")["status"] == "True"
        assert user.condition("Scheduled")["status"] == "False"

        vip.kubectl("delete", "infd/vip", "--cascade=foreground")
        assert not vip.pods()
        user.await_units(3)

    watch.assert_kept()
    assert not watch.contract.cut, "who makes room finishes its requests before"
    user.kubectl("delete", "infd/chat", "--cascade=background")
    user.await_no_pod()


def test_a_new_ratio_costs_no_unit_and_waits_for_room_in_words(
    user: User, add_nodes: AddNodes
) -> None:
    """On a full cluster units go on as they are; with room they grow, and shrink, and serve."""
    nodes = add_nodes(2)
    user.apply("one")
    user.await_units(2)
    assert set(story.free_gpus(user.cluster, nodes).values()) == {0}
    before = {pod.uid for pod in user.pods()}

    with watching(user.cluster, namespace=user.namespace, name="chat") as watch:
        watch.expect(serving=2, units=2, partial=0, band={"prefill": (1, 1), "decode": (2, 3)})
        user.apply("one", ratio={"prefill": 1, "decode": 3})
        eventually(
            lambda: user.condition("Progressing").get("reason") == "RatioWaits",
            what="the new ratio finds no room",
            timeout_s=SETTLED_S,
        )
        assert (
            "0 of 2 units run 1:3; unit 0 runs 1:2, unit 1 runs 1:2: no room"
            in (user.condition("Progressing")["message"])
        )
        assert user.condition("RatioWithinBand")["reason"] == "RatioChanging"
        assert user.condition("Ready")["status"] == "True"

        add_nodes(1)
        user.await_units(2, size=4)
        assert before <= {pod.uid for pod in user.pods()}

        watch.expect(serving=2, units=2, partial=0, band={"prefill": (1, 1), "decode": (1, 3)})
        user.apply("one", ratio={"prefill": 1, "decode": 1})
        user.await_units(2, size=2)
        assert {pod.uid for pod in user.pods()} < before
        assert user.condition("RatioWithinBand")["reason"] == "RatioKept"

    watch.assert_kept()
    assert not watch.contract.cut


def test_one_role_gets_what_the_other_gives_up_on_a_full_cluster(
    user: User, add_nodes: AddNodes
) -> None:
    """There is room for the new ratio only when the old one is given up, unit by unit."""
    add_nodes(2)
    user.apply("one", replicas=1, ratio={"prefill": 1, "decode": 6})
    user.await_units(1, size=7)

    with watching(user.cluster, namespace=user.namespace, name="chat") as watch:
        watch.expect(serving=0, units=1, band={"prefill": (1, 2), "decode": (4, 6)})
        user.apply("one", replicas=1, ratio={"prefill": 2, "decode": 4})
        user.await_units(1, size=6)

    watch.assert_kept()
    assert not watch.contract.cut


def test_an_automatic_ratio_takes_the_room_that_there_is_and_stays_in_its_band(
    user: User, add_nodes: AddNodes
) -> None:
    """Every unit is placed with its least, and grows; what is lost is made again."""
    add_nodes(2)
    band = {"prefill": (1, 1), "decode": (1, 4)}
    bounds = {"decode": {"min": 1, "max": 4}}
    auto = {"mode": "Auto", "prefill": 1, "decode": 4, "bounds": bounds}

    with watching(user.cluster, namespace=user.namespace, name="chat") as watch:
        watch.expect(serving=0, units=2, partial=2, band=band)
        user.apply("one", ratio=auto)
        eventually(lambda: _running(user) == 6, what="the nodes are full", timeout_s=SETTLED_S)
        eventually(
            lambda: user.condition("Progressing").get("reason") == "RatioWaits",
            what="there is no more room",
            timeout_s=SETTLED_S,
        )
        # A unit that still asks for all it may have would take the room of the pod that is lost
        # next; in the end each asks for one more.
        eventually(lambda: len(user.pods()) <= 8, what="each asks for one", timeout_s=SETTLED_S)
        eventually(lambda: _is_kept(user), what="both units serve", timeout_s=SETTLED_S)

        watch.expect(serving=1, units=2, band=band)
        user.kubectl("delete", "pod", "chat-0-prefill-0", "--grace-period=0", "--force")
        eventually(lambda: user.units()["ready"] == 1, what="a unit is lost", timeout_s=SETTLED_S)
        eventually(lambda: user.units()["ready"] == 2, what="it is back", timeout_s=SETTLED_S)

        watch.expect(serving=2, units=2, partial=0, band=band)
        add_nodes(1)
        user.await_units(2, size=5)

        user.apply("one", ratio={**auto, "decode": 2})
        user.await_units(2, size=3)

    watch.assert_kept()


def test_chaos_breaks_no_promise_and_all_ends_well(
    user: User, stack: Stack, add_nodes: AddNodes
) -> None:
    """Scaling, edits, kills, cordons, broken GPUs, higher priorities and restarts of ours."""
    nodes = add_nodes(4)
    chaos = Chaos(stack, nodes, user, seed=_SEED)
    user.apply("0", priorityClassName="batch")
    user.await_units(2)

    with (
        recorded(user.cluster, user.namespace),
        watching(
            user.cluster, namespace=user.namespace, name="chat", at_work=chaos.operator_works
        ) as watch,
    ):
        watch.expect(serving=0, units=MOST_UNITS + SURGE, partial=len(nodes))
        ends_at = time.monotonic() + _CHAOS_S
        while time.monotonic() < ends_at:
            chaos.strike()
            next_at = time.monotonic() + _PAUSE_S
            eventually(lambda at=next_at: time.monotonic() >= at, what="the next blow is due")  # type: ignore[misc] # bound here
        print(f"seed {_SEED}", *chaos.done, sep="\n")
        chaos.calm_down()
        user.apply("last", replicas=3, priorityClassName="batch")
        user.await_units(3)
        watch.assert_kept()

    assert watch.contract.samples > _CHAOS_S
    assert "Traceback" not in stack.log("operator")


def _is_paused(user: User) -> bool:
    """Return whether both units serve, one of them from an older template."""
    status = user.status()
    reasons = {c["type"]: c["reason"] for c in status["conditions"]}
    units = (status["units"]["ready"], status["units"]["updated"])
    return units == (2, 1) and reasons["Progressing"] == "RolloutPaused"


def _is_kept(user: User) -> bool:
    """Return whether both units serve, with as many replicas as they may have."""
    status = user.status()
    reasons = {c["type"]: c["reason"] for c in status["conditions"]}
    return (status["units"]["ready"], reasons["RatioWithinBand"]) == (2, "RatioKept")


def _await_updated(user: User, count: int) -> None:
    eventually(
        lambda: user.units()["updated"] == count,
        what=f"{count} units are of the newest template",
        timeout_s=SETTLED_S,
    )


def _running(user: User) -> int:
    """Return how many pods have a node."""
    return sum(bool(pod.node) for pod in user.pods())


def _changed(user: User, before: dict[str, str]) -> set[str]:
    return {pod.name for pod in user.pods() if before.get(pod.name) != pod.uid}
