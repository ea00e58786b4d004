"""Filters and reasons: what keeps a pod from a node, in codes and in words."""

from dataclasses import replace

import pytest

from bayplan.aftermath import Aftermath
from bayplan.cluster import units
from bayplan.cluster.constraints import (
    Constraints,
    NodeTerm,
    Preference,
    Requirement,
    Taint,
    Toleration,
)
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.plan import Certificate, Plan, Reason, Verdict
from bayplan.policy import Order
from bayplan.rules import filters
from bayplan.why import reasons
from bayplan.why.rooms import Census, Room
from tests.builders import GPU, node, pod, snapshot


def _affinity(*requirements: Requirement) -> Constraints:
    return Constraints(affinity=(NodeTerm(labels=requirements),))


def _field(name: str) -> NodeTerm:
    return NodeTerm(fields=(Requirement(key="metadata.name", operator="In", values=(name,)),))


def _tolerating(**toleration: str) -> Constraints:
    return Constraints(tolerations=(Toleration(**toleration),))


GPU_TAINT = Taint(key="gpu", value="yes")


@pytest.mark.parametrize(
    ("constraints", "target", "expected"),
    [
        pytest.param(Constraints(), node("n"), None, id="a plain pod may use a plain node"),
        pytest.param(
            Constraints(), node("n", ready=False), Reason.NODE_NOT_READY, id="a sick node refuses"
        ),
        pytest.param(
            Constraints(), node("n", schedulable=False), Reason.NODE_CORDONED, id="a cordon refuses"
        ),
        pytest.param(
            _tolerating(key="node.kubernetes.io/unschedulable", operator="Exists"),
            node("n", schedulable=False),
            None,
            id="a pod that tolerates the cordon may use a cordoned node",
        ),
        pytest.param(
            Constraints(),
            node("n", taints=(GPU_TAINT,)),
            Reason.TAINT_NOT_TOLERATED,
            id="a NoSchedule taint refuses",
        ),
        pytest.param(
            Constraints(),
            node("n", taints=(Taint(key="gpu", effect="NoExecute"),)),
            Reason.TAINT_NOT_TOLERATED,
            id="a NoExecute taint refuses",
        ),
        pytest.param(
            Constraints(),
            node("n", taints=(Taint(key="gpu", effect="PreferNoSchedule"),)),
            None,
            id="PreferNoSchedule is only a wish",
        ),
        pytest.param(
            _tolerating(key="gpu", value="yes", effect="NoSchedule"),
            node("n", taints=(GPU_TAINT,)),
            None,
            id="an equal toleration covers the taint",
        ),
        pytest.param(
            _tolerating(key="gpu", value="no"),
            node("n", taints=(GPU_TAINT,)),
            Reason.TAINT_NOT_TOLERATED,
            id="another value does not cover it",
        ),
        pytest.param(
            _tolerating(key="gpu", operator="Exists", effect="NoExecute"),
            node("n", taints=(GPU_TAINT,)),
            Reason.TAINT_NOT_TOLERATED,
            id="another effect does not cover it",
        ),
        pytest.param(
            _tolerating(key="disk", operator="Exists"),
            node("n", taints=(GPU_TAINT,)),
            Reason.TAINT_NOT_TOLERATED,
            id="another key does not cover it",
        ),
        pytest.param(
            _tolerating(key="gpu", operator="Lt", value="yes"),
            node("n", taints=(GPU_TAINT,)),
            Reason.TAINT_NOT_TOLERATED,
            id="an operator that nobody knows covers nothing",
        ),
        pytest.param(
            _tolerating(operator="Exists"),
            node("n", taints=(GPU_TAINT,)),
            None,
            id="Exists without a key covers everything",
        ),
        pytest.param(
            Constraints(node_selector=(("zone", "a"),)),
            node("n", labels={"zone": "b"}),
            Reason.SELECTOR_MISMATCH,
            id="a node selector compares values",
        ),
        pytest.param(
            Constraints(node_selector=(("zone", "a"),)),
            node("n", labels={"zone": "a"}),
            None,
            id="a node selector that matches passes",
        ),
        pytest.param(
            Constraints(affinity=(_field("m"), _field("n"))),
            node("n"),
            None,
            id="one of several terms is enough",
        ),
        pytest.param(
            Constraints(affinity=(_field("m"),)),
            node("n"),
            Reason.AFFINITY_MISMATCH,
            id="matchFields pins to a node by name",
        ),
        pytest.param(
            Constraints(affinity=(NodeTerm(),)),
            node("n"),
            Reason.AFFINITY_MISMATCH,
            id="an empty term matches nothing",
        ),
        pytest.param(
            Constraints(volumes=((_field("m"), _field("n")), (_field("n"),))),
            node("n"),
            None,
            id="every volume is reached by one of its terms",
        ),
        pytest.param(
            Constraints(volumes=((_field("m"), _field("n")), (_field("m"),))),
            node("n"),
            Reason.VOLUME_ELSEWHERE,
            id="one of several volumes is elsewhere",
        ),
    ],
)
def test_static_rejection(constraints: Constraints, target: Node, expected: Reason | None) -> None:
    """A pod would be planned onto a node whose scheduler then refuses it, or be kept off it."""
    rejection = filters.static_rejection(pod("p", constraints=constraints), target)

    assert (rejection.reason if rejection else None) == expected


@pytest.mark.parametrize(
    ("operator", "values", "label", "holds"),
    [
        pytest.param("In", ("a", "b"), "b", True, id="In holds for a listed value"),
        pytest.param("In", ("a",), None, False, id="In fails without the label"),
        pytest.param("NotIn", ("a",), "b", True, id="NotIn holds for another value"),
        pytest.param("NotIn", ("a",), None, True, id="NotIn holds without the label"),
        pytest.param("NotIn", ("a",), "a", False, id="NotIn fails for a listed value"),
        pytest.param("Exists", (), "x", True, id="Exists holds for any value"),
        pytest.param("Exists", (), None, False, id="Exists fails without the label"),
        pytest.param("DoesNotExist", (), None, True, id="DoesNotExist holds without the label"),
        pytest.param("DoesNotExist", (), "x", False, id="DoesNotExist fails with it"),
        pytest.param("Gt", ("80",), "141", True, id="Gt compares as integers, not as text"),
        pytest.param("Gt", ("80",), "80", False, id="Gt is strict"),
        pytest.param("Lt", ("80",), "9", True, id="Lt compares as integers, not as text"),
        pytest.param("Gt", ("80",), "many", False, id="Gt fails for what is no integer"),
        pytest.param("Lt", ("80",), "80", False, id="Lt is strict"),
        pytest.param("Gt", ("few",), "80", False, id="Gt fails where the limit is no integer"),
        pytest.param("Gt", ("80",), None, False, id="Gt fails without the label"),
        pytest.param("Lt", ("-0080",), "-81", True, id="Lt compares with leading zeros"),
        pytest.param("Gt", (str(2**63 - 2),), str(2**63 - 1), True, id="Gt has 64 bits"),
        pytest.param("Gt", ("80",), str(2**63), False, id="Gt fails beyond 64 bits"),
        pytest.param("Lt", ("9" * 5000,), "80", False, id="Lt fails for an endless number"),
        pytest.param("Like", ("a",), "a", False, id="an unknown operator holds for nothing"),
    ],
)
def test_affinity_operators(
    *, operator: str, values: tuple[str, ...], label: str | None, holds: bool
) -> None:
    """Affinity would mean something else to us than to the scheduler."""
    wanted = _affinity(Requirement(key="k", operator=operator, values=values))
    target = node("n", labels={} if label is None else {"k": label})

    assert (filters.eligibility(wanted, target) is None) is holds


def test_an_empty_preference_is_fulfilled_by_every_node() -> None:
    """Unlike an empty term that is required; kube-scheduler counts it so."""
    zone = NodeTerm(labels=(Requirement(key="zone", operator="In", values=("a",)),))
    prefers = [Preference(weight=1, term=NodeTerm()), Preference(weight=7, term=zone)]

    found = [filters.preference(prefers, node("n", labels={"zone": z})) for z in "ab"]

    assert found == [8, 1]


def test_gpus_are_told_before_anything_else_that_is_short() -> None:
    """They are what people wait for."""
    found = filters.reject(pod("p", gpus=16, cpu_milli=10**9), node("n"), node("n").allocatable)

    assert found is not None
    assert found.message == "needs 16 GPUs; n has 8 in all"


def test_too_small_is_final_and_says_the_numbers() -> None:
    """Nobody could tell that no eviction helps, or how much is missing."""
    rejection = filters.reject(pod("p", gpus=8), node("node-3", gpus=4), Resources())

    assert rejection is not None
    assert rejection.reason == Reason.TOO_SMALL
    assert not rejection.resolvable
    assert rejection.message == "needs 8 GPUs; node-3 has 4 in all"


def test_no_room_is_resolvable_and_says_the_numbers() -> None:
    """Preemption would be ruled out where it helps."""
    free = Resources.of({GPU: 3, "pods": 9})
    rejection = filters.reject(pod("p", gpus=8), node("n"), free)

    assert rejection is not None
    assert rejection.reason == Reason.INSUFFICIENT_ROOM
    assert rejection.resolvable
    assert rejection.message == "needs 8 GPUs; 3 free on the node"


def test_an_over_full_node_has_no_room() -> None:
    """A negative rest would be read as room, or be shown to people."""
    rejection = filters.room_rejection(Resources.of({GPU: 1}), Resources.of({GPU: -2}))

    assert rejection is not None
    assert rejection.message == "needs 1 GPU; 0 free on the node"


#: A plan that does nothing.
NOTHING = Plan(certificate=Certificate(order=Order.PLACE_FIRST, verdict=Verdict.UNCHANGED))


def _rooms(asking: Pod, *things: Node | Pod) -> tuple[Room, ...]:
    census = Census(Aftermath.of_plan(snapshot(*things), NOTHING), [asking.constraints])
    return census.rooms(lambda _: True).all


SIX = tuple(node(f"n{i}", gpus=8) for i in range(6))


@pytest.mark.parametrize(
    ("asking", "things", "expected"),
    [
        pytest.param(pod("p"), (), "the cluster has no nodes", id="no nodes at all"),
        pytest.param(
            pod("p", gpus=8),
            (node("a", gpus=4), node("b", gpus=2)),
            "needs 8 GPUs on one node; the largest has 4",
            id="no node is ever large enough",
        ),
        pytest.param(
            pod("p", gpus=8),
            (
                *SIX,
                node("c1", schedulable=False),
                node("c2", schedulable=False),
                *(pod(f"r{i}", gpus=4, on=f"n{i}") for i in range(3)),
                *(pod(f"r{i}", gpus=5, on=f"n{i}") for i in range(3, 6)),
            ),
            "0 of 8 nodes have room: 6 lack GPUs (most free on one node: 4, needs 8; "
            "21 free in all); 2 are cordoned",
            id="room in pieces",
        ),
        pytest.param(
            pod("p", gpus=8),
            (node("a", gpus=4), node("b", gpus=8, schedulable=False)),
            "0 of 2 nodes will do: 1 is cordoned; 1 is too small (needs 8 GPUs)",
            id="the only large node is cordoned",
        ),
        pytest.param(
            pod("p", constraints=Constraints(node_selector=(("zone", "x"),))),
            SIX,
            "0 of 6 nodes will do: 6 lack a label it selects (zone=x)",
            id="no node has the label",
        ),
        pytest.param(
            pod("p"),
            (
                node("a", taints=(Taint(key="team", value="y"),)),
                node("b", taints=(Taint(key="team", value="y"), Taint(key="zone", value="z"))),
                node("c", taints=(Taint(key="team", value="z"),)),
            ),
            "0 of 3 nodes will do: 3 have a taint it does not tolerate "
            "(most often team=y:NoSchedule)",
            id="the commonest of several taints is named",
        ),
        pytest.param(
            pod(
                "p",
                constraints=Constraints(
                    affinity=(
                        NodeTerm(labels=(Requirement(key="m", operator="In", values=("h", "b")),)),
                    )
                ),
            ),
            (node("a"),),
            "0 of 1 nodes will do: 1 fails its node affinity (m In h, b)",
            id="the term of an affinity is named",
        ),
        pytest.param(
            pod("p", gpus=2, cpu_milli=2000),
            (
                node("a", gpus=1),
                node("b", cpu_milli=3000),
                pod("r", gpus=0, cpu_milli=1500, on="b"),
            ),
            "0 of 2 nodes have room: 1 lacks CPU (most free on one node: 1.5 CPU, "
            "needs 2 CPU; 1.5 CPU free in all); 1 is too small",
            id="GPUs of a node that is too small do not count",
        ),
        pytest.param(
            pod("p", gpus=2, cpu_milli=2000),
            (
                node("a"),
                pod("q", gpus=7, on="a"),
                node("b", cpu_milli=3000),
                pod("r", gpus=0, cpu_milli=1500, on="b"),
            ),
            "0 of 2 nodes have room: 1 lacks CPU (most free on one node: 1.5 CPU, "
            "needs 2 CPU; 65.5 CPU free in all); 1 lacks GPUs (most free on one node: 1, "
            "needs 2; 9 free in all)",
            id="the most is that of nodes that lack it",
        ),
        pytest.param(
            replace(pod("p"), requests=Resources.of({"amd.com/gpu": 2, "pods": 1})),
            (node("a"),),
            "needs 2 amd.com/gpu on one node; the largest has 0",
            id="GPUs of another make are called by their name",
        ),
        pytest.param(
            pod("p", gpus=8, memory_mib=2048),
            (node("a", gpus=8, memory_mib=1024), node("b", gpus=4, memory_mib=4096)),
            "needs 8 GPUs, 2 GiB memory on one node; each node lacks one of these",
            id="each resource exists somewhere but not together",
        ),
        pytest.param(
            pod("p", cpu_milli=2000),
            (node("a", cpu_milli=3000), pod("r", cpu_milli=1500, on="a")),
            "0 of 1 nodes have room: 1 lacks CPU (most free on one node: 1.5 CPU, "
            "needs 2 CPU; 1.5 CPU free in all)",
            id="CPU is short where GPUs are not",
        ),
    ],
)
def test_summary_over_all_nodes(asking: Pod, things: tuple[Node | Pod, ...], expected: str) -> None:
    """People would see Pending without the number that tells them what to do."""
    rejection = reasons.over_rooms(asking, _rooms(asking, *things))

    assert rejection is not None
    assert rejection.message == expected


def test_no_summary_when_a_node_has_room() -> None:
    """A pod that fits would be told that it does not."""
    assert reasons.over_rooms(pod("p"), _rooms(pod("p"), node("n"))) is None


def test_unknown_fields_and_names_compare_as_text() -> None:
    """A node name would be taken for a label of the same key."""
    labelled = node("n", labels={"metadata.name": "other"})

    assert filters.eligibility(Constraints(affinity=(_field("n"),)), labelled) is None
    assert NodeName("n") == labelled.name


@pytest.mark.parametrize(
    ("resource", "value", "expected"),
    [
        (GPU, 1, "1 GPU"),
        ("amd.com/gpu", 8, "8 GPUs"),
        ("cpu", 1500, "1.5 CPU"),
        ("memory", 65536, "64 GiB memory"),
        ("pods", 1, "1 pod"),
        ("example.com/nic", 2, "2 example.com/nic"),
    ],
)
def test_amounts_in_words(resource: str, value: int, expected: str) -> None:
    """Messages would show raw resource names and units."""
    assert units.words(resource, value) == expected


def test_nodes_that_nobody_names_look_alike() -> None:
    """One pod that is kept from a single node made each node of a fleet one of its own."""
    pinned = Constraints(affinity=(_field("n1"),))
    kept = Constraints(refused="no such disk", refused_at=("n2",))

    looks = filters.Looks.of([pinned, kept])

    assert [*looks.over(snapshot(*map(node, ("n1", "n2", "n3", "n4")))).numbers] == [0, 1, 2, 2]
