"""What is published of a plan that is cut short is a valid plan as well."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from bayplan.bounding import bounded
from bayplan.cluster.keys import PodKey
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Plan, Verdict
from bayplan.policy import Order, Policy
from bayplan.truncation import publishable
from bayplan.validate import validate
from tests import oracle
from tests.property.neighbours import clusters
from tests.property.plans import POLICY, applied, frozen, made, policies, snapshots


def cut(snapshot: Snapshot, policy: Policy, whole: Plan, most: int) -> Plan:
    """Return what is published of a plan where there is room for `most` actions."""
    result = replace(made(snapshot), plan=whole)
    return publishable(
        snapshot, policy, result, clock=frozen, listed=lambda plan: bounded(plan, most)
    ).plan


def steps(plan: Plan) -> int:
    """Return how many pods a plan binds, moves and evicts."""
    return len(plan.binds) + len(plan.moves) + len(plan.evictions)


@given(snapshot=snapshots(), policy=policies(), most=st.integers(0, 8))
def test_what_is_left_of_a_plan_is_a_plan(snapshot: Snapshot, policy: Policy, most: int) -> None:
    """A gang would be released in part, or somebody evicted for a pod that is left out."""
    whole = made(snapshot, policy).plan

    kept = cut(snapshot, policy, whole, most)

    assert validate(snapshot, policy, kept) == ()
    assert kept == whole if steps(whole) <= most else steps(kept) <= most
    assert everybody(kept) == everybody(whole)


@given(snapshot=clusters(nodes=4, pods=10), most=st.integers(1, 6))
def test_what_pods_ask_of_each_other_holds_in_what_is_left(snapshot: Snapshot, most: int) -> None:
    """A pod would come to a zone that another one leaves in the steps that are left out."""
    whole = made(snapshot).plan

    kept = cut(snapshot, POLICY, whole, most)

    assert validate(snapshot, POLICY, kept) == ()
    assert steps(kept) <= max(most, 0)
    assert everybody(kept) == everybody(whole)


@settings(max_examples=30)
@given(snapshot=clusters(nodes=3, pods=5), most=st.integers(1, 3))
def test_no_bound_of_what_is_left_can_be_beaten(snapshot: Snapshot, most: int) -> None:
    """A stage would be bounded by what another plan reached before it."""
    whole = made(snapshot).plan
    kept = cut(snapshot, POLICY, whole, most)
    stages = kept.certificate.stages
    names = tuple(stage.name for stage in stages)

    bounds = oracle.reached(names, tuple(stage.bound for stage in stages))
    best = oracle.best(snapshot, POLICY, names)

    assert kept.certificate.verdict is not Verdict.OPTIMAL or kept == whole
    assert [*best[:-1]] == [*oracle.reached(names, tuple(s.value for s in stages))][:-1]
    assert best[-1:] <= bounds[-1:]


@given(snapshot=snapshots(nodes=4, pods=12), most=st.integers(1, 4))
def test_the_next_plans_go_on(snapshot: Snapshot, most: int) -> None:
    """Pods that one plan has no room for would wait for ever."""
    policy = replace(POLICY, order=Order.PROTECT_FIRST)
    everything = made(snapshot, policy).plan
    if any(bind.gang for bind in everything.binds) or everything.victims:
        return
    for _ in everything.binds:
        snapshot = applied(snapshot, cut(snapshot, policy, made(snapshot, policy).plan, most))

    assert not made(snapshot, policy).plan.binds


def everybody(plan: Plan) -> set[PodKey]:
    """Return the pods on which a plan decides."""
    return {bind.pod for bind in plan.binds} | {hold.pod for hold in plan.holds}
