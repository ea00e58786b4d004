"""Pods with volumes are told what they would be told if they asked for the same nodes otherwise."""

import re
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bayplan.aftermath import Aftermath
from bayplan.cluster.constraints import NodeTerm, Requirement
from bayplan.cluster.pods import Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Certificate, Hold, Plan, Verdict
from bayplan.policy import Order, Policy
from bayplan.why import holds
from bayplan.why.leaving import Rules
from bayplan.why.obstacles import Obstacles
from bayplan.why.remedies import Search
from bayplan.why.rooms import Census
from tests.property.crowds import HOSTNAME, crowd
from tests.property.plans import policies

#: A plan that does nothing.
_NOTHING = Plan(certificate=Certificate(order=Order.PLACE_FIRST, verdict=Verdict.UNCHANGED))


def _where(random: Random) -> tuple[NodeTerm, ...]:
    node = Requirement(key=HOSTNAME, operator="In", values=(f"n{random.randint(0, 4)}",))
    zone = Requirement(key="zone", operator="In", values=(random.choice("pqr"),))
    model = Requirement(key="model", operator=random.choice(["Exists", "NotIn"]), values=("a",))
    lines = random.choice([(node,), (node,), (zone,), (zone, model), (model,)])
    return tuple(NodeTerm(labels=(line,)) for line in lines)


def _both(seed: int) -> tuple[Snapshot, Snapshot]:
    """Return a cluster of pods with disks, and the same with pods that ask for those nodes."""
    random = Random(seed)  # noqa: S311 - an example, not a secret
    crowded = crowd(seed, rules=random.random() < 0.3)
    disks = {pod.uid: _where(random) for pod in crowded.pods if random.random() < 0.6}

    def asking(pod: Pod, *, volumes: bool) -> Pod:
        terms = disks.get(pod.uid)
        if terms is None:
            return pod
        asks = {"volumes": (terms,)} if volumes else {"affinity": terms}
        return replace(pod, constraints=replace(pod.constraints, **asks))

    first, second = (
        Snapshot.of(
            crowded.nodes,
            [asking(pod, volumes=volumes) for pod in crowded.pods],
            crowded.budgets,
        )
        for volumes in (True, False)
    )
    return first, second


def _told(snapshot: Snapshot, policy: Policy) -> Sequence[Hold]:
    outcomes = {pod.uid: holds.Outcome(proved=True) for pod in snapshot.pods}
    after = Aftermath.of_plan(snapshot, _NOTHING)
    return holds.explain(after, policy, outcomes=outcomes, in_time=lambda: True)


def _found(snapshot: Snapshot, pod: Pod) -> tuple[object, ...]:
    after = Aftermath.of_plan(snapshot, _NOTHING)
    asked = any(kind.constraints.peers for kind in snapshot.kinds)
    rules = Obstacles(after) if asked else Rules()
    census = Census(after, {kind.constraints for kind in snapshot.kinds})
    found = Search(after, census, rules).find([snapshot.by_key[pod.key]])
    return (found.free, [pod.key for pod in found.evict], found.uncordon, found.add)


def _in_order(message: str) -> list[str]:
    """Return the parts of the sentence, which says of either why nodes are out of the question."""
    alike = re.sub(r"fails? its node affinity( \(.*?\)(?=;|$|, \d| \(needs))?", "refuse", message)
    alike = re.sub(r"(does|do) not reach its volume", "refuse", alike)
    needs = re.search(r" \(needs [^()]*\)$", alike)
    bare = alike[: needs.start()] if needs else alike
    return sorted(re.split(r"; |: |, (?=\d)|(?<=nodes) (?=\d)", bare)) + (
        [needs.group()] if needs else []
    )


@given(seed=st.integers(0, 2**32), policy=policies())
def test_a_disk_is_explained_as_the_nodes_that_it_stands_for(seed: int, policy: Policy) -> None:
    """Nodes without the disk are not looked at: one with room could be missed, or one counted."""
    disks, asking = _both(seed)

    told, expected = _told(disks, policy), _told(asking, policy)

    assert [hold.pod for hold in told] == [hold.pod for hold in expected]
    for hold, other in zip(told, expected, strict=True):
        assert _in_order(hold.rejection.message) == _in_order(other.rejection.message)
    for pod in disks.waiting():
        assert _found(disks, pod) == _found(asking, pod)
