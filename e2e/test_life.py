"""The life of plans on a real API server and the unmodified kube-scheduler.

Windows that defragment, gangs that race for room, budgets that are in the way, preemption over
nodes: each on four 8-GPU nodes, all under one installation of Bayplan.
"""

import json
import random
import time
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from e2e import fleet_scene, story
from e2e.cluster import CommandFailed, add_gpu_nodes, eventually, remove_gpu_nodes
from e2e.command_line import bayplan
from e2e.fleet_scene import ALWAYS, SETTLED_S, Object, User, counted, deployment
from e2e.readiness_sampler import ReadinessSampler

nodes, stack, user = fleet_scene.nodes, fleet_scene.stack, fleet_scene.user

#: Seconds in which somebody is told why they wait: 10 are promised where nobody shares the machine.
_TOLD_S = 30.0

#: What kubectl fails with while nobody answers.
_REFUSED = (CommandFailed,)

#: Seconds for which pods come one by one, how probably another one leaves each time, and the GPUs
#: of those beside the web pods that are more than there is room for, or that surely fit.
_ARRIVING_S = 60.0
_LEAVES = 0.4
_MOST_ASKED = 28
_ALL_FIT = 16

#: A node that appears during a test.
_NEW = "life-new"


def test_an_open_window_wins_whole_nodes_within_its_budget(user: User) -> None:
    """Free GPUs would stay scattered until a large pod comes, and then it would have to wait."""
    user.scatter(2)
    assert set(user.free().values()) == {6}
    moved = sum(counted(plan, "moved")[0] for plan in user.plans("Defragment"))
    assert moved == 0

    user.policy(defragmentation=ALWAYS | {"maxMoves": 2})
    eventually(
        lambda: list(user.free().values()).count(8) == 2,
        what="two moves win two nodes",
        timeout_s=SETTLED_S,
    )
    user.await_phases(**{f"small{n}": {"Running": 1} for n in range(4)})
    (plan,) = user.plans("Defragment")
    assert plan["spec"]["verdict"] == "Optimal"
    assert counted(plan, "bound", "moved", "evicted") == [0, 2, 0]
    eventually(
        lambda: user.plans("Defragment")[0]["status"]["phase"] == "Completed",
        what="the plan is completed",
    )


def test_a_gang_arrives_while_the_fleet_is_defragmented(user: User) -> None:
    """Two plans would move the same pods to and fro, or the gang would get half of its room."""
    user.scatter(2)

    user.policy(defragmentation=ALWAYS)
    user.apply(deployment("big", 8, replicas=2, gang=True, priority="online"))

    wanted = {f"small{n}": {"Running": 1} for n in range(4)}
    user.await_phases(big={"Running": 2}, **wanted)


def test_of_two_gangs_that_race_for_one_room_one_runs_whole_and_the_other_waits_whole(
    user: User,
) -> None:
    """Each would get half of its pods, and both would hold GPUs for nothing."""
    user.apply(*(deployment(name, 8, replicas=3, gang=True) for name in ("red", "blue")))

    def decided() -> str:
        phases = user.phases()
        (winner,) = [app for app in phases if dict(phases[app]) == {"Running": 3}]
        (loser,) = phases.keys() - {winner}
        assert dict(phases[loser]) == {"Gated": 3}
        return winner

    def won() -> str:
        try:
            return decided()
        except ValueError as error:
            raise AssertionError(user.phases()) from error

    winner = eventually(won, what="one gang runs", timeout_s=SETTLED_S)
    loser = "red" if winner == "blue" else "blue"
    eventually(
        lambda: all("waits whole" in told for told in user.decisions(loser)),
        what="the other is told why it waits",
        timeout_s=_TOLD_S,
    )
    user.cluster.kubectl_run("delete", "deployment", winner, "-n", user.namespace)
    user.await_phases(**{loser: {"Running": 3}})


def test_a_gang_takes_the_room_of_lower_priorities_on_several_nodes_and_no_more(
    user: User,
) -> None:
    """The scheduler's own preemption looks at one node at a time and never makes room for both."""
    user.apply(deployment("low", 4, replicas=8))
    user.await_phases(low={"Running": 8})

    user.apply(deployment("urgent", 8, replicas=2, gang=True, priority="online"))

    user.await_phases(urgent={"Running": 2}, low={"Running": 4, "Gated": 4})
    assert [counted(plan, "evicted") for plan in user.plans("PlaceFirst")][-1] == [4]


def test_a_budget_that_admits_no_eviction_is_named_and_kept(user: User) -> None:
    """Pods would be moved past their budget, or somebody would wait without knowing for whom."""
    user.scatter(2)
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "keep"},
        "spec": {"minAvailable": 4, "selector": {"matchExpressions": [_any("app", 4)]}},
    }
    user.apply(budget)
    admits_none = partial(_budget_admits, user, 0)
    eventually(admits_none, what="the budget counts its pods", timeout_s=SETTLED_S)

    user.apply(deployment("big", 8, priority="online"))

    def told() -> bool:
        decision = " ".join(user.decisions("big"))  # nobody is there at first
        assert "PodDisruptionBudget" in decision, decision
        return f"{user.namespace}/keep" in decision

    eventually(told, what="the pod is told which budget it waits for", timeout_s=_TOLD_S)
    assert set(user.free().values()) == {6}
    user.cluster.kubectl_run("delete", "pdb", "keep", "-n", user.namespace)
    user.await_phases(big={"Running": 1}, **{f"small{n}": {"Running": 1} for n in range(4)})


def test_who_comes_one_by_one_never_breaks_a_budget(user: User) -> None:
    """For a minute pods of all sizes come and go, and a budget lets one of six go at a time."""
    user.apply(deployment("web", 2, replicas=6))
    user.await_phases(web={"Running": 6})
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    }
    user.apply(budget)
    chance = random.Random(11)  # noqa: S311 - a test's choices
    sizes: dict[str, int] = {}
    with ReadinessSampler(user.cluster, user.namespace, app="web") as seen:
        for name in _arrivals():
            if sizes and (sum(sizes.values()) > _MOST_ASKED or chance.random() < _LEAVES):
                user.delete(leaver := chance.choice(sorted(sizes)))
                del sizes[leaver]
            sizes[name] = chance.choice((1, 2, 4, 8))
            user.apply(deployment(name, sizes[name], priority="online"))
            assert min(user.free().values()) >= 0, user.free()
        while sum(sizes.values()) > _ALL_FIT or 8 in sizes.values():
            user.delete(leaver := max(sizes, key=sizes.__getitem__))
            del sizes[leaver]

        user.await_phases(web={"Running": 6}, **{name: {"Running": 1} for name in sizes})
    assert set(user.phases()) == {"web", *sizes}
    assert seen.left, "somebody had to give way"
    assert seen.fewest >= 5, f"{seen.fewest} of 6 were left"


def test_a_pod_runs_where_its_disk_is_and_somebody_else_makes_room(user: User) -> None:
    """Seen: the plan pinned it elsewhere, failed, and did so again and again."""
    node = user.nodes[2]
    user.cluster.kubectl_run("label", "node", node, "example.com/disks=yes", "--overwrite")
    user.scatter(2)
    line = {"key": "example.com/disks", "operator": "Exists"}
    capacity = {"storage": "1Gi"}
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    disk = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"disk-{user.namespace}"},
        "spec": {
            **common,
            "capacity": capacity,
            "local": {"path": "/disk"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [line]}]}},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "disk"},
        "spec": {
            **common,
            "volumeName": f"disk-{user.namespace}",
            "resources": {"requests": capacity},
        },
    }
    big = deployment("big", 8, priority="online")
    volume = {"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}
    big["spec"]["template"]["spec"]["volumes"] = [volume]
    user.apply(disk, claim)
    try:
        eventually(partial(_is_bound, user), what="the claim has the disk", timeout_s=SETTLED_S)
        user.apply(big)

        user.await_phases(big={"Running": 1}, **{f"small{n}": {"Running": 1} for n in range(4)})
        (there,) = [p for p in story.pods(user.cluster, user.namespace) if "big" in p.name]
        assert there.node == node
    finally:
        user.delete("big")
        user.cluster.kubectl_run("delete", "pvc", "disk", "-n", user.namespace)
        user.cluster.kubectl_run("delete", "pv", f"disk-{user.namespace}")


def test_a_question_is_answered_from_the_cluster_and_changes_nothing(
    user: User, tmp_path: Path
) -> None:
    """Somebody would have to apply their manifest to learn whether it fits."""
    user.scatter(2)
    before = [pod.uid for pod in story.pods(user.cluster, user.namespace)]

    def ask(gpus: int, replicas: int) -> Object:
        (tmp_path / "new.json").write_text(json.dumps(deployment("new", gpus, replicas=replicas)))
        file = str(tmp_path / "new.json")
        told: Object = json.loads(
            bayplan(user.cluster.env, "plan", "-f", file, "-o", "json").stdout
        )
        return told

    fits, moves, never = ask(6, 3), ask(8, 2), ask(8, 4)

    assert (fits["fits"], fits["disturbsNobody"], fits["copies"]) == (True, True, 0)
    assert (moves["fits"], moves["plan"]["counts"]["moved"]) == (True, 2)
    assert (never["fits"], never["placed"]) == (False, 3)
    assert [pod.uid for pod in story.pods(user.cluster, user.namespace)] == before


def test_an_autoscaler_sees_a_gang_that_does_not_fit_and_its_nodes_take_it_whole(
    user: User,
) -> None:
    """Behind gates its pods are overlooked; with none four of five would run for nothing."""
    user.policy(nodeProvisioning="WhenInfeasible")
    user.apply(deployment("big", 8, replicas=5, gang=True))

    def seen() -> bool:
        pods = story.pods(user.cluster, user.namespace)
        assert [pod.phase for pod in pods] == ["Pending"] * 5
        assert not any(pod.node or pod.gated for pod in pods)
        return all(_is_unschedulable(user, pod.name) for pod in pods)

    eventually(seen, what="the scheduler calls all of them unschedulable", timeout_s=SETTLED_S)
    assert user.is_empty()

    made = add_gpu_nodes(user.cluster, names=[_NEW])
    try:
        user.await_phases(big={"Running": 5})
        user.cluster.kubectl_run("delete", "deployment", "big", "-n", user.namespace)
        user.await_phases(big={})
    finally:
        remove_gpu_nodes(user.cluster, names=made)


def test_pods_that_come_while_the_operator_is_away_run_when_it_is_back(user: User) -> None:
    """A plan that nobody carried out would be taken for done, or its pods forgotten."""
    user.apply(deployment("first", 8))
    user.await_phases(first={"Running": 1})
    before = story.plans(user.cluster)[-1]["spec"]["sequence"]

    user.stack.stop("operator")
    try:
        user.apply(deployment("early", 8, replicas=2, gang=True))
        planned = partial(_is_planned_after, user, before)
        eventually(planned, what="the planner plans all the same", timeout_s=SETTLED_S)
        assert user.phases()["early"] == {"Gated": 2}
    finally:
        user.stack.start("operator")
    user.await_phases(early={"Running": 2})


def test_an_api_server_that_comes_back_finds_everybody_at_work(user: User) -> None:
    """A watch that died unnoticed would answer from an old picture for ever."""
    server = user.cluster.components.get("kube-apiserver")
    if server is None:
        pytest.skip("only a local control plane can lose its API server")
    user.apply(deployment("before", 8, replicas=2))
    user.await_phases(before={"Running": 2})

    server.kill()
    server.start()
    eventually(user.free, what="the API server answers", timeout_s=SETTLED_S, retry_on=_REFUSED)

    user.apply(deployment("after", 8, replicas=2))
    eventually(partial(_all_run, user), what="all pods run", timeout_s=SETTLED_S)
    for program in ("operator", "planner", "webhook"):
        user.stack.processes[program].check()


def _all_run(user: User) -> bool:
    """Return whether both pods of before and of after run.

    kube-scheduler ends when it could not renew its lease for 10 s, which an API server may take to
    come back; then it is started again, as a kubelet would.
    """
    scheduler = user.stack.processes["scheduler"]
    if not scheduler.alive:
        scheduler.start()
    phases = user.phases()
    return phases["before"] == phases["after"] == {"Running": 2}


def _arrivals() -> Iterator[str]:
    """Yield names as fast as they are taken, for a minute."""
    ends_at = time.monotonic() + _ARRIVING_S
    for number in count():
        if time.monotonic() >= ends_at:
            return
        yield f"job{number}"


def _is_planned_after(user: User, sequence: int) -> bool:
    """Return whether a later plan gives both pods of a gang their nodes."""
    newest = story.plans(user.cluster)[-1]
    return newest["spec"]["sequence"] > sequence and counted(newest, "bound") == [2]


def _is_bound(user: User) -> bool:
    claim = story.get(user.cluster, "pvc/disk", namespace=user.namespace)
    return bool(claim["status"].get("phase") == "Bound")


def _is_unschedulable(user: User, pod: str) -> bool:
    raw = story.get(user.cluster, f"pod/{pod}", namespace=user.namespace)
    conditions = raw["status"].get("conditions", [])
    return any(c["type"] == "PodScheduled" and c["reason"] == "Unschedulable" for c in conditions)


def _any(key: str, count: int) -> Object:
    return {"key": key, "operator": "In", "values": [f"small{n}" for n in range(count)]}


def _budget_admits(user: User, count: int) -> bool:
    status = story.get(user.cluster, "pdb/keep", namespace=user.namespace).get("status", {})
    healthy = status.get("currentHealthy") == len(user.nodes)
    return bool(healthy and status.get("disruptionsAllowed") == count)
