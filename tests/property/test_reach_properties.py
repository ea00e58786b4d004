"""Nodes that reach volumes are found by looking them up, and are the same as by looking at each."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayplan.cluster.constraints import Constraints, NodeTerm, Requirement, Volume
from bayplan.cluster.keys import ClaimKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Rejection
from bayplan.policy import Policy
from bayplan.preparation import prepared
from bayplan.rules import filters
from bayplan.rules.filters import eligibility, term_matches
from bayplan.rules.reach import Reach
from bayplan.solver.problem import counting
from tests.builders import node, pod

KEYS = st.sampled_from(["zone", "host"])
VALUES = st.sampled_from(["a", "b", "3"])
OPERATORS = st.sampled_from(["In", "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Unknown"])
LINES = st.builds(
    Requirement,
    key=KEYS,
    operator=OPERATORS,
    values=st.lists(VALUES, max_size=3).map(tuple),
)
NAMES = st.builds(
    Requirement,
    key=st.sampled_from(["metadata.name", "metadata.other"]),
    operator=st.sampled_from(["In", "NotIn"]),
    values=st.lists(st.sampled_from(["n0", "n1", "n9"]), max_size=2).map(tuple),
)
TERMS = st.builds(
    NodeTerm,
    labels=st.lists(LINES, max_size=2).map(tuple),
    fields=st.lists(NAMES, max_size=1).map(tuple),
)
ALTERNATIVES = st.lists(TERMS, max_size=3).map(tuple)
LABELS = st.dictionaries(KEYS, VALUES)


def fleet(labels: list[dict[str, str]]) -> tuple[Node, ...]:
    """Return nodes with these labels."""
    return tuple(
        replace(node(f"n{i}"), labels=tuple(sorted(each.items()))) for i, each in enumerate(labels)
    )


@given(labels=st.lists(LABELS, max_size=6), asked=st.lists(ALTERNATIVES, max_size=3))
def test_looking_up_finds_what_looking_at_each_node_finds(
    labels: list[dict[str, str]], asked: list[tuple[NodeTerm, ...]]
) -> None:
    """A pod would be kept from its disk, or sent to where it is not."""
    nodes = fleet(labels)
    reach = Reach(nodes)
    for terms in (*asked, *asked):
        assert reach.of(terms) == tuple(
            i
            for i, each in enumerate(nodes)
            if any(term_matches(term, dict(each.labels), each) for term in terms)
        )


@given(labels=st.lists(LABELS, min_size=1, max_size=5), asked=st.lists(ALTERNATIVES, max_size=3))
def test_a_class_may_arrive_where_a_node_takes_its_pods(
    labels: list[dict[str, str]], asked: list[tuple[NodeTerm, ...]]
) -> None:
    """What volumes ask is checked apart from all else; both must hold."""
    waiting = pod("p", gpus=1)
    constraints = replace(
        waiting.constraints, volumes=tuple(asked), node_selector=(("zone", "a"),)[: len(asked) % 2]
    )
    snapshot = Snapshot.of(fleet(labels), [replace(waiting, constraints=constraints)])

    (arrivals,) = counting.build(snapshot).arrivals

    assert arrivals.tolist() == [eligibility(constraints, n) is None for n in snapshot.nodes]


HOST = "kubernetes.io/hostname"


def with_disks(count: int, *, running: bool, hosts: int = 1) -> Snapshot:
    """Return pods with a disk of their own each, which so many nodes reach, the pod's first."""
    names = [f"n{i:03d}" for i in range(count)]
    nodes = [replace(node(name), labels=((HOST, name),)) for name in names]
    pods: list[Pod] = []
    volumes: list[Volume] = []
    for i, name in enumerate(names):
        claim = f"disk-{i}"
        made = pod(f"p{i}", gpus=2, owner="team", on=name if running else None)
        pods.append(replace(made, claims=(claim,)))
        near = tuple(sorted(names[(i + k) % count] for k in range(hosts)))
        term = NodeTerm(labels=(Requirement(key=HOST, operator="In", values=near),))
        volumes.append(Volume(claim=ClaimKey(made.key.namespace, claim), nodes=(term,)))
    seen = Snapshot(nodes=tuple(nodes), pods=tuple(pods), volumes=tuple(volumes))
    return prepared(seen, Policy(), plans=(), now=0)


def test_running_pods_with_disks_inside_their_nodes_are_alike() -> None:
    """Each was a class of its own: no proof, and seconds only to count them."""
    instance = counting.build(with_disks(50, running=True))
    (only,) = instance.classes
    assert len(only.running) == 50
    assert not only.movable
    assert not instance.arrivals.any()


def test_running_pods_whose_disks_another_node_reaches_may_be_moved_there() -> None:
    """They would stay where they are for good."""
    instance = counting.build(with_disks(5, running=True, hosts=2))
    assert len(instance.classes) == 5
    for each, arrivals in zip(instance.classes, instance.arrivals, strict=True):
        (row,) = each.rows
        assert {*arrivals.nonzero()[0]} == {row, (row + 1) % 5}


def test_nodes_are_not_looked_at_for_each_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """800 waiting pods with disks of their own took three seconds only to be counted."""
    snapshot, looked, check = with_disks(50, running=False), [], eligibility

    def counted(constraints: Constraints, where: Node) -> Rejection | None:
        looked.append(where)
        return check(constraints, where)

    monkeypatch.setattr(filters, "eligibility", counted)
    arrivals = counting.build(snapshot).arrivals

    assert arrivals.sum() == 50
    assert len(looked) == 1
