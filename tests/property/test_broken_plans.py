"""Every rule that a plan breaks is found, and no other: placements at random, against each rule."""

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.policy import Policy
from bayplan.rules import filters
from bayplan.validate import Code, validate
from tests import oracle
from tests.property.crowds import crowds
from tests.property.neighbours import clusters, fleets
from tests.property.plans import plan_for, policies, snapshots

#: What is looked at: the rules of a placement. What its certificate says is another matter.
RULES = {
    Code.NODE_REFUSES,
    Code.OVER_COMMITTED,
    Code.NOT_DISRUPTABLE,
    Code.PEERS_BROKEN,
    Code.GANG_SPLIT,
    Code.GANG_SCATTERED,
    Code.OVER_BUDGET,
}

#: Placements that are looked at of each cluster.
MOST = 20


@given(
    snapshot=st.one_of(
        snapshots(nodes=4, pods=8),
        clusters(nodes=4, pods=8),
        fleets(nodes=4, pods=8),
        crowds(rules=True),
    ),
    policy=policies(),
    seed=st.integers(0, 2**32),
)
def test_each_broken_rule_is_found_and_no_other(
    snapshot: Snapshot, policy: Policy, seed: int
) -> None:
    """A plan would be carried out that breaks a rule, or a sound one be thrown away."""
    random = Random(seed)  # noqa: S311 - an example, not a secret
    snapshot = _varied(snapshot, random)
    for _ in range(MOST if snapshot.pods else 0):
        places = _changed(snapshot, random)
        plan = plan_for(snapshot, places, policy)

        found = {violation.code for violation in validate(snapshot, policy, plan)}

        assert found & RULES == oracle.broken(snapshot, policy, places)


def _varied(snapshot: Snapshot, random: Random) -> Snapshot:
    """Return the cluster with some pods on their way out, and larger gangs."""
    size = random.choice([2, 2, 3])
    pods = [
        replace(
            each,
            terminating=each.node is not None and random.random() < 0.1,
            gang_min_count=size if each.gang else 0,
        )
        for each in snapshot.pods
    ]
    return replace(snapshot, pods=tuple(pods))


def _changed(snapshot: Snapshot, random: Random) -> oracle.Places:
    """Return where pods could be after a plan that is sound but for a thing or two, if at all."""
    places = [pod.node for pod in snapshot.pods]
    for _ in range(random.randint(1, 4)):
        chosen = random.choice(snapshot.pods)
        together = random.random() < 0.8
        anywhere = random.random() < 0.1
        leaves = random.random() < 0.4
        for i, pod in enumerate(snapshot.pods):
            is_like = pod.gang == chosen.gang and pod.waiting == chosen.waiting
            if pod == chosen or (together and chosen.gang and is_like):
                places[i] = _somewhere(pod, snapshot, random, anywhere=anywhere, leaves=leaves)
    return tuple(places)


def _somewhere(
    pod: Pod, snapshot: Snapshot, random: Random, *, anywhere: bool, leaves: bool
) -> oracle.Place:
    """Return no node if it leaves, else one that would take it and where it may go, or any."""
    nodes = snapshot.nodes
    if not anywhere:
        nodes = tuple(n for n in nodes if filters.static_rejection(pod, n) is None)
        if not pod.waiting and (pod.terminating or pod.disruption is Disruption.FIXED):
            return pod.node
    if leaves or not nodes:
        return None
    if not anywhere and not pod.waiting and pod.disruption is Disruption.EVICTABLE:
        return pod.node
    return random.choice(nodes).name
