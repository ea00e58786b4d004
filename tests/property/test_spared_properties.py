"""Victims that nobody needs are found, and never in a plan that is best, against brute force."""

from itertools import islice
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Certificate, Plan, Verdict
from bayplan.policy import Order, Policy
from bayplan.validate import Code, validate
from bayplan.validate.evidence import gather
from bayplan.validate.stages import in_order
from tests import oracle
from tests.property.neighbours import clusters
from tests.property.plans import plan_for, policies, snapshots

#: Placements of a cluster that are looked at, from some thousands.
MOST = 40


@given(
    snapshot=st.one_of(snapshots(nodes=3, pods=6), clusters(nodes=3, pods=5)),
    policy=policies(),
    seed=st.integers(0, 2**32),
)
def test_the_best_plans_pass_and_what_is_refused_is_not_best(
    snapshot: Snapshot, policy: Policy, seed: int
) -> None:
    """The best plan would be thrown away for a greedy one."""
    nothing = Plan(certificate=Certificate(order=policy.order, verdict=Verdict.UNCHANGED))
    names = in_order(gather(snapshot, policy, nothing))

    def worth(places: oracle.Places) -> tuple[int, ...]:
        score = oracle.score(snapshot, places)
        return oracle.reached(names, tuple(score.get(name, 0) for name in names))

    placements = list(oracle.placements(snapshot, policy))
    best = max(map(worth, placements))
    Random(seed).shuffle(placements)  # noqa: S311 - an example, not a secret
    for places in islice((each for each in placements if worth(each) == best), 3):
        found = {
            each.code for each in validate(snapshot, policy, plan_for(snapshot, places, policy))
        }
        assert found <= {Code.WRONG_VERDICT}
    for places in placements[:MOST]:
        plan = plan_for(snapshot, places, policy)
        codes = {each.code for each in validate(snapshot, policy, plan)}
        assert worth(places) < best or not codes & {Code.OUTRANKED_VICTIM, Code.NO_GAIN}


@given(snapshot=snapshots(nodes=3, pods=6), seed=st.integers(0, 2**32), protect=st.booleans())
def test_a_victim_whose_room_goes_to_no_higher_priority_is_found(
    snapshot: Snapshot,
    seed: int,
    protect: bool,  # noqa: FBT001 - drawn by hypothesis
) -> None:
    """A running pod would be restarted for one of its own priority, beside a newcomer of higher."""
    policy = Policy(order=Order.PROTECT_FIRST if protect else Order.PLACE_FIRST)
    placements = list(oracle.placements(snapshot, policy))
    Random(seed).shuffle(placements)  # noqa: S311 - an example, not a secret
    for places in placements[:MOST]:
        plan = plan_for(snapshot, places, policy)
        about = gather(snapshot, policy, plan)
        tiers = [
            about.placing.values[k].tier for k in about.placing.numbers[about.after.bound.pods]
        ]
        came = [(b.node, tier) for b, tier in zip(plan.binds, tiers, strict=True)]
        taken = {each.target for each in plan.moves}
        leaving = [pod for _, pod in about.evicted]
        leaving += [pod for _, pod in about.moved] if protect else []
        for pod in leaving:
            tier = pod.priority if pod.key in about.gone else pod.priority - 1
            for_whom = {priority for node, priority in came if node == pod.node}
            if pod.gang is None and pod.node not in taken and all(p <= tier for p in for_whom):
                codes = {each.code for each in validate(snapshot, policy, plan)}
                assert Code.OUTRANKED_VICTIM in codes
