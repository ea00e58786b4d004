"""What pods ask of nodes and of each other, on small clusters nobody thought of."""

from unittest import mock

from hypothesis import given

from bayplan.cluster.snapshot import Snapshot
from bayplan.planner import plan
from bayplan.solver import engine, keepfill
from bayplan.solver.local import greedy
from bayplan.solver.problem import goals
from bayplan.solver.problem.counting import build
from bayplan.validate import validate
from tests import oracle
from tests.property.neighbours import clusters, fleets
from tests.property.plans import POLICY, frozen


@given(snapshot=clusters(nodes=3, pods=5))
def test_stages_equal_brute_force(snapshot: Snapshot) -> None:
    """A rule would forbid what is right, or `Optimal` would not mean optimal."""
    certificate = plan(snapshot, POLICY, clock=frozen).plan.certificate
    names = tuple(stage.name for stage in certificate.stages)
    values = tuple(stage.value for stage in certificate.stages)

    assert oracle.reached(names, values) == oracle.best(snapshot, POLICY, names)


@given(snapshot=clusters(nodes=5, pods=12))
def test_every_plan_is_valid(snapshot: Snapshot) -> None:
    """A pod would be pinned where kube-scheduler refuses it."""
    instance = build(snapshot)
    found = engine.solve(instance, POLICY, clock=frozen, deadline_at=17.0, seed=0)

    result = plan(snapshot, POLICY, clock=frozen)

    assert validate(snapshot, POLICY, result.plan) == ()
    # The exact engine's own answer passed, not a simpler one in its place.
    assert result.plan.certificate.stages == found.stages


@given(snapshot=clusters(nodes=5, pods=12))
def test_the_greedy_placement_is_valid(snapshot: Snapshot) -> None:
    """A fleet too large for the exact model would be placed against the rules."""
    late = iter(range(10**9))

    result = plan(snapshot, POLICY, clock=lambda: float(next(late)) * 1000)

    first = greedy.fill(build(snapshot), POLICY.order, ended=lambda: True)
    assert validate(snapshot, POLICY, result.plan) == ()
    order = goals.in_order(build(snapshot), POLICY.order)
    reached = tuple(stage.value for stage in result.plan.certificate.stages)
    assert reached == tuple(goal.value(build(snapshot), first) for goal in order)


@given(snapshot=fleets(nodes=3, pods=6))
def test_keep_and_fill_knows_what_is_settled_node_by_node(snapshot: Snapshot) -> None:
    """A large fleet would get two pods on one node that exclude each other, or no proof."""
    assert keepfill.supports(build(snapshot))
    with mock.patch.object(engine, "MIN_VARIABLES", 0):
        result = plan(snapshot, POLICY, clock=frozen)
    stages = result.plan.certificate.stages
    names = tuple(stage.name for stage in stages)
    values = tuple(stage.value for stage in stages)

    assert validate(snapshot, POLICY, result.plan) == ()
    assert all(stage.proved for stage in stages)
    assert oracle.reached(names, values) == oracle.best(snapshot, POLICY, names)


@given(snapshot=clusters(nodes=5, pods=12))
def test_keep_and_fill_is_never_wrong(snapshot: Snapshot) -> None:
    """It would answer where it does not see what is asked."""
    with mock.patch.object(engine, "MIN_VARIABLES", 0):
        instance = build(snapshot)
        counted = engine.solve(instance, POLICY, clock=frozen, deadline_at=17.0, seed=0)
    with mock.patch.object(engine, "MIN_VARIABLES", 10**9):
        direct = engine.solve(instance, POLICY, clock=frozen, deadline_at=17.0, seed=0)

    assert [s.value for s in counted.stages] == [s.value for s in direct.stages]
