"""Whom a selector means, and over which nodes a pod is spread: solver and validator both ask."""

from dataclasses import replace

import pytest

from bayplan.cluster.constraints import (
    Constraints,
    Peers,
    PodSelector,
    PodTerm,
    Spread,
    Taint,
    Toleration,
)
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.plan import Reason
from bayplan.rules import peers
from bayplan.rules.peers import Neighbours
from tests.builders import apart, beside, node, pod, select, snapshot

ZONE = Spread(key="zone", pods=select(app="x"))
HERE = node("n", labels={"zone": "a", "host": "n", "disk": "ssd"})
DEDICATED = replace(HERE, taints=(Taint(key="gpu", value="yes"),))
CORDONED = replace(HERE, schedulable=False)


@pytest.mark.parametrize(
    ("selector", "of", "meant"),
    [
        (select(app="x"), pod("p", labels={"app": "x"}), True),
        (select(app="x"), pod("p", labels={"app": "y"}), False),
        (replace(select(app="x"), nobody=True), pod("p", labels={"app": "x"}), False),
        (PodSelector(namespaces=("other",)), pod("p"), False),
        (PodSelector(namespaces=("other", "default")), pod("p"), True),
        (PodSelector(), pod("p", namespace="anywhere"), True),
    ],
)
def test_whom_a_selector_means(selector: PodSelector, of: Pod, *, meant: bool) -> None:
    """A pod would be kept away from those of another team, or not from its own."""
    assert peers.selects(selector, of) is meant


@pytest.mark.parametrize(
    ("rule", "asks", "target", "counted"),
    [
        (ZONE, {}, HERE, True),
        (ZONE, {}, node("n"), False),
        (ZONE, {"node_selector": (("disk", "hdd"),)}, HERE, False),
        (
            replace(ZONE, honours_affinity=False),
            {"node_selector": (("disk", "hdd"),)},
            HERE,
            True,
        ),
        (ZONE, {}, DEDICATED, True),
        (replace(ZONE, honours_taints=True), {}, DEDICATED, False),
        (replace(ZONE, honours_taints=True), {}, CORDONED, False),
        (
            replace(ZONE, honours_taints=True),
            {"tolerations": (Toleration(key="gpu", operator="Exists"),)},
            DEDICATED,
            True,
        ),
    ],
    ids=[
        *("it has the label", "it has none", "the pod does not select it", "which is ignored"),
        *("taints are ignored", "a taint counts", "a cordon counts", "the taint is tolerated"),
    ],
)
def test_over_which_nodes_a_pod_is_spread(
    rule: Spread, asks: dict[str, object], target: Node, *, counted: bool
) -> None:
    """The emptiest domain would be one that kube-scheduler does not see, or the other way round."""
    constraints = Constraints(peers=Peers(spreads=(rule,)), **asks)  # type: ignore[arg-type]

    assert peers.counts(rule, constraints, target) is counted


def test_a_node_counts_only_with_the_labels_of_all_spreads_of_a_pod() -> None:
    """As kube-scheduler has it: where one of them is missing, the pod cannot go."""
    constraints = Constraints(peers=Peers(spreads=(ZONE, replace(ZONE, key="rack"))))

    assert not peers.counts(ZONE, constraints, HERE)


A, B = (node(name, labels={"zone": name}) for name in "ab")
X = {"app": "x"}


def test_a_rule_that_some_nodes_break_keeps_nobody_off_all() -> None:
    """A pod would be told of a neighbour that is not in its way."""
    shy = pod("shy", constraints=apart("zone", app="x"))
    there = Neighbours(snapshot(A, B, pod("p", on="a", labels=X)))

    assert there.over_nodes(shy, [A, B]) is None
    assert there.over_nodes(shy, []) is None
    one = there.over_nodes(shy, [A])
    assert one is not None
    assert (one.reason, one.resolvable) == (Reason.POD_ANTI_AFFINITY, True)
    assert one.message == ("its anti-affinity keeps it away from default/p in zone=a (on a)")


def test_of_several_rules_the_one_that_most_nodes_break_is_told() -> None:
    """Whoever mends the other one would be none the wiser."""
    three = [A, B, node("c", labels={"zone": "c"})]
    odd = node("d")
    term = PodTerm(key="zone", pods=select(app="x"))
    both = pod("p", constraints=Constraints(peers=Peers(repels=(term,), spreads=(ZONE,))))
    there = Neighbours(snapshot(*three, odd, *(pod(n, on=n, labels=X) for n in "abc")))

    told = there.over_nodes(both, [odd, *three])

    assert told is not None
    assert told.reason is Reason.POD_ANTI_AFFINITY
    assert told.message.endswith("in zone=a (on a); likewise on all 4 nodes with room")


def test_who_is_placed_is_not_in_its_own_way() -> None:
    """A pod that is to be moved would be kept off the domain that it is in."""
    itself = pod("p", on="a", labels=X, constraints=apart("zone", app="x"))

    assert Neighbours(snapshot(A, itself)).repulsion(itself, A) is None


def test_domains_are_those_that_have_the_label() -> None:
    """All nodes without a zone would be one zone."""
    bare = [node(name) for name in "cd"]
    shy = pod("shy", constraints=apart("zone", app="x"))
    there = Neighbours(snapshot(*bare, pod("p", on="c", labels=X)))

    assert there.refusal(shy, bare[1]) is None
    assert there.repulsion(pod("q", labels=X), bare[1]) is None


def in_zones(*zones: str, **fields: object) -> list[Pod]:
    """Return pods that are meant, one in each of the zones."""
    return [replace(pod(f"x-{zone}", on=zone, labels=X), **fields) for zone in zones]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "there", "takes"),
    [
        (ZONE, [], "ab"),
        (ZONE, in_zones("a"), "b"),
        (ZONE, in_zones("a", terminating=True), "ab"),
        (replace(ZONE, max_skew=2), in_zones("a"), "ab"),
        (replace(ZONE, min_domains=2), in_zones("a", "b"), "ab"),
        (replace(ZONE, min_domains=3), in_zones("a", "b"), ""),
    ],
    ids=["empty", "uneven", "it leaves", "a wider skew", "even", "too few domains"],
)
def test_a_spread_is_counted_as_kube_scheduler_does(
    rule: Spread, there: list[Pod], takes: str
) -> None:
    """Whoever waits would be told a wrong reason, or none."""
    one = pod("p", labels=X, constraints=Constraints(peers=Peers(spreads=(rule,))))
    seen = Neighbours(snapshot(A, B, *there))

    refusals = {str(on.name): seen.refusal(one, on) for on in (A, B)}

    assert "".join(name for name, refusal in refusals.items() if refusal is None) == takes
    refused = [refusal for refusal in refusals.values() if refusal is not None]
    assert all(each.reason is Reason.TOPOLOGY_SPREAD and each.resolvable for each in refused)


@pytest.mark.parametrize(
    ("labels", "there", "takes"),
    [
        ({}, [], ""),
        ({}, in_zones("a"), "a"),
        (X, [], "ab"),
        (X, in_zones("a"), "a"),
    ],
    ids=["nobody is there", "somebody is", "it is the first itself", "it is not the first"],
)
def test_who_needs_company_goes_where_it_is(
    labels: dict[str, str], there: list[Pod], takes: str
) -> None:
    """The first of those who ask for each other may go anywhere that has the label."""
    one = pod("p", labels=labels, constraints=beside("zone", app="x"))
    bare = node("bare")
    seen = Neighbours(snapshot(A, B, bare, *there, pod("other", on="b")))

    refusals = {str(on.name): seen.refusal(one, on) for on in (A, B, bare)}

    assert "".join(name for name, refusal in refusals.items() if refusal is None) == takes
    refused = [refusal for refusal in refusals.values() if refusal is not None]
    assert all(each.reason is Reason.POD_AFFINITY and each.resolvable for each in refused)
