"""Units that are needed are placed before others, and cost more to disturb."""

from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from bayplan.cluster.keys import NodeName, Owner
from bayplan.cluster.pods import MAX_MOVE_COST, Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec.deployments import deployment_of
from bayplan.codec.nodes import node_of
from bayplan.codec.pods import pod_of
from bayplan.inference import manifests
from bayplan.plan import Result
from bayplan.planner import plan
from bayplan.policy import Order, Policy
from bayplan.rules.minimums import missing, protected
from bayplan.solver import engine
from tests.builders import node, pod


def unit(name: str, index: int, *, min_units: int, on: str | None) -> list[Pod]:
    """Return the two 4-GPU pods of a unit of a deployment of priority 0."""
    owner = Owner(kind="InferenceDeployment", namespace="default", name=name, uid=f"uid-{name}")
    return [
        replace(
            pod(
                f"{name}-{index}-{part}",
                gpus=4,
                on=on,
                gang=f"{name}-{index}",
                min_count=2,
                min_units=min_units,
            ),
            owner=owner,
        )
        for part in "ab"
    ]


def test_so_many_units_of_each_deployment_as_it_needs_are_dear() -> None:
    """The lowest of those that run whole."""
    pods = [
        *unit("a", 0, min_units=1, on=None),
        *unit("a", 1, min_units=1, on="n1"),
        *unit("a", 2, min_units=1, on="n2"),
        *unit("b", 0, min_units=0, on="n3"),
        *unit("c", 0, min_units=2, on="n4")[:1],
    ]

    nodes = [node(f"n{n}") for n in range(1, 5)]

    found = protected(Snapshot.of(nodes, pods))

    dear = {pod.key.name for pod in found.pods if pod.move_cost == MAX_MOVE_COST}
    assert dear == {"a-1-a", "a-1-b"}


def test_each_deployment_shrinks_to_what_it_needs_before_any_is_evicted() -> None:
    """Two newcomers take the second unit of both, not both units of one."""
    nodes = [node(f"n{n}", gpus=8) for n in range(4)]
    running = [
        each
        for number, name in enumerate("ab")
        for index in range(2)
        for each in unit(name, index, min_units=1, on=f"n{2 * number + index}")
    ]
    newcomers = [replace(pod(f"vip-{n}", gpus=8), priority=1000) for n in range(2)]

    found = plan(
        protected(Snapshot.of(nodes, [*running, *newcomers])), Policy(), clock=lambda: 0.0
    ).plan

    assert {evict.pod.name[:3] for evict in found.evictions} == {"a-1", "b-1"}
    assert len(found.evictions) == 4


def waits(each: Pod) -> Pod:
    """Return the pod before it had a node."""
    return replace(each, node=None, waiting=True)


A0, A1, A2 = (unit("a", index, min_units=2, on="n0") for index in range(3))
W0, W1, W2 = ([waits(each) for each in part] for part in (A0, A1, A2))


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        pytest.param([*W0, *W1, *W2], {"a-0", "a-1"}, id="as many as are missing, by number"),
        pytest.param([*W0, *W1, *A2], {"a-0"}, id="one fewer where one runs"),
        pytest.param([*W0, *A1, *A2], set(), id="none where enough run"),
        pytest.param(
            [*W0, *A1, *(replace(each, bound=False) for each in A2)],
            set(),
            id="who is on its way counts",
        ),
        pytest.param(
            [*W0, *A1, *(replace(each, terminating=True) for each in A2)],
            {"a-0"},
            id="who is leaving does not",
        ),
        pytest.param(
            [*W0, *A1, *(replace(each, node=NodeName("gone")) for each in A2)],
            {"a-0"},
            id="nor who is on a node that is gone",
        ),
        pytest.param([*W0, *A1, A2[0], W2[1]], {"a-2"}, id="a unit of which part runs comes first"),
        pytest.param(
            [W0[0], *W1, *A2], {"a-1"}, id="a unit of which pods do not exist cannot be placed"
        ),
        pytest.param(
            [
                waits(each)
                for index in (2, 9, 10, 11)
                for each in unit("b", index, min_units=2, on="n0")
            ],
            {"b-2", "b-9"},
            id="unit 9 comes before unit 10",
        ),
        pytest.param(
            [waits(each) for each in unit("a", 0, min_units=0, on="n0")],
            set(),
            id="none is asked for",
        ),
        pytest.param(
            [replace(each, owner=None) for each in W0], set(), id="pods that nobody makes again"
        ),
    ],
)
def test_the_units_nearest_to_serving_are_needed(pods: list[Pod], expected: set[str]) -> None:
    """Room would be held for another unit in each pass, or for more than are missing."""
    nodes = [node("n0", gpus=24)]

    assert {key.name for key in missing(Snapshot.of(nodes, pods))} == expected
    assert {key.name for key in missing(Snapshot.of(nodes, pods[::-1]))} == expected


#: Pods of the same priority that want the room of a unit, and are more than it has.
OTHERS = [replace(pod(f"w{i}", gpus=1), created_at=1) for i in range(8)]


def planned(*things: Pod, nodes: int = 1, order: Order = Order.PLACE_FIRST) -> Result:
    """Return the plan for pods on nodes of 8 GPUs."""
    fleet = [node(f"n{i}") for i in range(nodes)]
    policy = Policy(time_limit_s=20.0, order=order)
    return plan(Snapshot.of(fleet, things), policy, clock=lambda: 0.0)


def stages(found: Result) -> list[tuple[str, int]]:
    """Return what the placing stages reach."""
    told = found.plan.certificate.stages
    return [(stage.name, stage.value) for stage in told if stage.name.startswith("place")]


@pytest.mark.parametrize("order", [Order.PLACE_FIRST, Order.PROTECT_FIRST])
@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [
        pytest.param(10**9, 10**9, {"greedy", "cp-sat"}, id="without counting"),
        pytest.param(0, 10**9, {"keep-and-fill"}, id="keep and fill"),
        pytest.param(10**9, 0, {"greedy", "repair"}, id="without the exact model"),
    ],
)
def test_a_needed_unit_comes_before_more_pods_of_its_tier(
    order: Order, least: int, most: int, expected: set[str]
) -> None:
    """A deployment would stay below its minReplicas for pods that nobody needs as much."""
    with (
        mock.patch.object(engine, "MIN_VARIABLES", least),
        mock.patch("bayplan.solver.search.MAX_VARIABLES", most),
    ):
        found = planned(*W0, *W1, *OTHERS, order=order)
        two = planned(*W0, *W1, *OTHERS, nodes=2, order=order)
        other = planned(*(replace(each, min_units=0) for each in (*W0, *W1)), *OTHERS, order=order)

    assert found.engine in expected
    assert (found.refused, two.refused) == ((), ())
    assert {bind.gang.name for bind in found.plan.binds if bind.gang} == {"a-0"}
    assert stages(found) == [("place 0 below minReplicas", 2), ("place 0", 0)]
    assert stages(two) == [("place 0 below minReplicas", 4), ("place 0", 0)]
    assert stages(other) == [("place 0", 8)]


def test_whoever_is_not_needed_is_placed_after_who_is() -> None:
    """Two units would be needed where one is, or none where one runs."""
    one = [replace(each, min_units=1) for each in (*W0, *W1)]

    assert stages(planned(*one, *OTHERS, nodes=2)) == [
        ("place 0 below minReplicas", 2),
        ("place 0", 8),
    ]


def test_a_needed_unit_makes_only_lower_tiers_go() -> None:
    """A minimum would count for more than a running pod of the same priority."""
    running = pod("r", gpus=8, on="n0")
    higher = [replace(each, priority=10) for each in W0]

    assert not planned(running, *W0).plan.evictions
    assert stages(planned(running, *W0)) == [("place 0 below minReplicas", 0)]
    assert [evict.pod.name for evict in planned(running, *higher).plan.evictions] == ["r"]


def test_a_needed_unit_that_preempts_nobody_waits_for_room() -> None:
    """It would cost a running pod of a lower priority its place."""
    gentle = [replace(each, priority=10, preempts=False) for each in W0]
    running = pod("r", gpus=8, on="n0")

    assert stages(planned(running, *gentle)) == [
        ("place 10 below minReplicas without preemption", 0)
    ]


def test_a_unit_of_one_pod_is_needed_as_well() -> None:
    """It is no gang, for which nobody has to look out."""
    single = [
        pod(f"s-{i}", gpus=8, gang=f"s-{i}", min_count=1, owner="s", min_units=1) for i in range(2)
    ]
    found = planned(*single, *OTHERS)

    assert [bind.pod.name for bind in found.plan.binds] == ["s-0"]
    assert stages(found) == [("place 0 below minReplicas", 1), ("place 0", 0)]


def test_what_the_operator_makes_of_min_replicas_is_needed() -> None:
    """The planner would not know what an InferenceDeployment asks for."""
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": 4}}}
    template = {"spec": {"containers": [container]}}
    raw: dict[str, Any] = {
        "kind": "InferenceDeployment",
        "metadata": {"name": "chat", "namespace": "team", "uid": "uid-chat"},
        "spec": {
            "replicas": 12,
            "minReplicas": 2,
            "pools": [{"role": role, "template": template} for role in ("Prefill", "Decode")],
        },
    }
    made = manifests.manifests(deployment_of(raw))
    pods = [pod_of(each) for each in made]
    host = {
        "kind": "Node",
        "metadata": {"name": "n0"},
        "status": {
            "allocatable": {"nvidia.com/gpu": "8", "pods": "9"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    snapshot = Snapshot.of([node_of(host)], [each for each in pods if each])
    others = [*snapshot.pods, *OTHERS]

    found = plan(Snapshot.of(snapshot.nodes, others), Policy(), clock=lambda: 0.0)

    assert {key.name for key in missing(snapshot)} == {"chat-0", "chat-1"}
    assert {bind.gang.name for bind in found.plan.binds if bind.gang} == {"chat-0"}
    assert len(found.plan.binds) == 2
    raw["spec"]["minReplicas"] = 1
    fewer = [pod_of(each) for each in manifests.manifests(deployment_of(raw))]
    assert Snapshot.of(snapshot.nodes, [each for each in fewer if each]).digest != snapshot.digest
