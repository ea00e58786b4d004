"""A plan that is cut to size is still one that may be carried out."""

from hypothesis import given
from hypothesis import strategies as st

from bayplan.bounding import bounded
from bayplan.cluster.keys import GangKey, NodeName, PodKey
from bayplan.plan import Bind, Certificate, Evict, Move, Plan, Verdict
from bayplan.policy import Order

NODES = st.sampled_from([NodeName(f"n{i}") for i in range(4)])


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Return a plan with up to a dozen binds, some of gangs, and a few victims."""
    binds = tuple(
        Bind(
            pod=PodKey("d", f"b{i}"),
            uid=f"b{i}",
            node=draw(NODES),
            gang=GangKey("d", gang) if gang else None,
            priority=draw(st.integers(0, 3)),
        )
        for i, gang in enumerate(draw(st.lists(st.sampled_from(["", "", "g", "h"]), max_size=12)))
    )
    moves = tuple(
        Move(
            pod=PodKey("d", f"m{i}"),
            uid=f"m{i}",
            source=draw(NODES),
            target=draw(NODES),
            owner=None,
            priority=0,
        )
        for i in range(draw(st.integers(0, 2)))
    )
    evictions = tuple(
        Evict(pod=PodKey("d", f"e{i}"), uid=f"e{i}", node=draw(NODES), priority=0)
        for i in range(draw(st.integers(0, 3)))
    )
    certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.IMPROVED)
    return Plan(certificate=certificate, binds=binds, moves=moves, evictions=evictions)


def arrivals(plan: Plan) -> set[NodeName]:
    """Return the nodes that get a pod."""
    return {bind.node for bind in plan.binds} | {move.target for move in plan.moves}


def left(plan: Plan) -> set[NodeName]:
    """Return the nodes that lose a pod."""
    return {evict.node for evict in plan.evictions} | {move.source for move in plan.moves}


@given(plans(), st.integers(0, 16))
def test_nobody_goes_for_a_bind_that_is_left_out(plan: Plan, most: int) -> None:
    """A running pod would be killed, and its place stay empty."""
    kept = bounded(plan, most)

    if kept.evictions or kept.moves:
        assert (kept.evictions, kept.moves) == (plan.evictions, plan.moves)
        assert left(plan) & arrivals(plan) <= arrivals(kept)
    elif plan.evictions or plan.moves:
        assert left(plan).isdisjoint(arrivals(kept))


@given(plans(), st.integers(0, 16))
def test_a_plan_that_is_cut_is_of_the_size_and_has_whole_gangs(plan: Plan, most: int) -> None:
    """The API server would refuse it, or half a gang be released."""
    kept = bounded(plan, most)

    assert len(kept.binds) + len(kept.moves) + len(kept.evictions) <= most
    for gang in {bind.gang for bind in kept.binds if bind.gang}:
        whole = [bind for bind in plan.binds if bind.gang == gang]
        assert [bind for bind in kept.binds if bind.gang == gang] == whole


@given(plans())
def test_a_plan_that_fits_is_not_cut(plan: Plan) -> None:
    """Pods would wait for the next plan for nothing."""
    assert bounded(plan, len(plan.binds) + len(plan.moves) + len(plan.evictions)) == plan
