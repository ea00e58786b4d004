"""Units below minReplicas come before others of their tier: brute force says so, of each engine."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from random import Random
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.planner import plan
from bayplan.policy import Order, Policy
from bayplan.rules import minimums
from bayplan.solver import engine
from bayplan.solver.local import greedy
from bayplan.solver.problem import goals
from bayplan.solver.problem.counting import build
from bayplan.validate import validate
from bayplan.validate.minimums import lacking
from tests import oracle
from tests.builders import GPU, node, pod
from tests.builders import snapshot as snapshot_of
from tests.property import counted, whole_nodes
from tests.property.plans import made, policies


def clusters(*, nodes: int, pods: int) -> st.SearchStrategy[Snapshot]:
    """Return crowded clusters of units of deployments, some of which are needed, and of others.

    They come from a seed, as in `test_planner_properties`.
    """
    return st.integers(0, 2**32).map(lambda seed: _cluster(seed, nodes, pods))


def _cluster(seed: int, nodes: int, pods: int) -> Snapshot:
    random = Random(seed)  # noqa: S311 - an example, not a secret
    fleet = [
        node(f"n{i}", gpus=random.choice([2, 4, 4, 8])) for i in range(random.randint(1, nodes))
    ]
    free = {each.name: each.allocatable[GPU] for each in fleet}
    things: list[Pod] = []
    for name in "ab"[: random.randint(1, 2)]:
        deployment = list(_deployment(random, name))
        things += [_at_home(each, fleet, free) for each in deployment[: pods - 2 - len(things)]]
    for i in range(random.randint(1, max(1, pods - len(things)))):
        other = pod(
            f"w{i}",
            gpus=random.choice([1, 1, 2, 3, 4]),
            priority=random.choice([0, 10, 10]),
            preempts=random.random() < 0.8,
            disruption=random.choice([*[Disruption.MOVABLE] * 4, Disruption.EVICTABLE]),
            on="anywhere" if random.random() < 0.3 else None,
        )
        things.append(_at_home(other, fleet, free))
    return snapshot_of(*fleet, *things)


def _deployment(random: Random, name: str) -> Iterator[Pod]:
    """Yield the pods of a deployment; some of them run, and some do not exist yet."""
    size, min_units, tier = (
        random.choice([1, 2, 2]),
        random.randint(0, 3),
        random.choice([0, 10, 10]),
    )
    preempts, first = random.random() < 0.8, random.choice([0, 8])
    gpus = [random.choice([1, 2, 2, 3]) for _ in range(size)]
    for unit in range(first, first + random.randint(1, 4)):
        state = random.choice(["runs", "waits", "waits", "waits", "partly", "lacks"])
        for part in range(size):
            runs = state == "runs" or (state == "partly" and not part)
            if state == "lacks" and size > 1 and part:
                continue
            made = pod(
                f"{name}-{unit}-{part}",
                gpus=gpus[part],
                priority=tier,
                preempts=preempts,
                gang=f"{name}-{unit}",
                min_count=size,
                owner=name,
                min_units=min_units,
                on="anywhere" if runs else None,
            )
            yield replace(made, created_at=random.choice([1, 2, 3]))


def _at_home(each: Pod, fleet: list[Node], free: dict[NodeName, int]) -> Pod:
    """Return a pod that is to run on the first node with room for it; without any it waits."""
    if each.node is None:
        return each
    asks = each.requests[GPU]
    home = next((host.name for host in fleet if free[host.name] >= asks), None)
    if home is None:
        return replace(each, node=None, waiting=True)
    free[home] -= asks
    return replace(each, node=home)


def _disturbed(snapshot: Snapshot, random: Random) -> Snapshot:
    """Return the snapshot with pods that leave, are only pinned, or are on nodes that are gone."""
    pods = [
        replace(
            each,
            terminating=random.random() < 0.1,
            bound=each.node is None or random.random() < 0.8,
            gang_min_count=random.choice([each.gang_min_count] * 5 + [1, 2**30]),
            min_units=random.choice([each.min_units] * 3 + [0, 2]),
        )
        for each in snapshot.pods
    ]
    gone = random.random() < 0.2
    return Snapshot.of(snapshot.nodes[1:] if gone else snapshot.nodes, pods)


@settings(max_examples=max(settings().max_examples, 120))
@given(snapshot=clusters(nodes=4, pods=14), random=st.randoms(use_true_random=False))
def test_the_validator_knows_by_itself_who_is_needed(snapshot: Snapshot, random: Random) -> None:
    """A plan would be refused that is right, or pass with a stage that counts others."""
    pods = [*snapshot.pods]
    random.shuffle(pods)
    shuffled = Snapshot.of(snapshot.nodes, pods)

    assert minimums.missing(shuffled) == oracle.needed(snapshot)
    assert lacking(shuffled) == oracle.needed(snapshot)

    odd = _disturbed(snapshot, random)
    assert lacking(odd) == minimums.missing(odd)


@given(snapshot=clusters(nodes=3, pods=6), policy=policies())
def test_stages_equal_brute_force(snapshot: Snapshot, policy: Policy) -> None:
    """A needed unit would lose its room to one that nobody needs as much."""
    result = made(snapshot, policy)
    stages = result.plan.certificate.stages
    names = tuple(stage.name for stage in stages)

    assert validate(snapshot, policy, result.plan) == ()
    assert result.refused == ()
    assert oracle.reached(names, tuple(s.value for s in stages)) == oracle.best(
        snapshot, policy, names
    )


@given(snapshot=clusters(nodes=3, pods=6), policy=policies(), sifted=st.booleans())
def test_keep_and_fill_equals_brute_force(
    snapshot: Snapshot, policy: Policy, *, sifted: bool
) -> None:
    """A large fleet would be certified for another order than a small one."""
    result = counted.made(snapshot, policy, sifted=sifted)
    stages = result.plan.certificate.stages
    names = tuple(stage.name for stage in stages)

    assert result.refused == ()
    assert oracle.reached(names, tuple(s.value for s in stages)) == oracle.best(
        snapshot, policy, names
    )


@settings(max_examples=15)
@given(snapshot=clusters(nodes=3, pods=6))
def test_bounds_over_whole_nodes_hold(snapshot: Snapshot) -> None:
    """A plan would be called optimal that leaves a needed unit waiting."""
    whole_nodes.check(snapshot, Policy(time_limit_s=20.0))


@settings(max_examples=10)
@given(snapshot=clusters(nodes=4, pods=12), policy=policies())
def test_search_without_the_exact_model_is_valid_and_no_worse(
    snapshot: Snapshot, policy: Policy
) -> None:
    """Chains, exchanges and windows would take a needed unit's place for another."""
    instance = build(snapshot)
    order = goals.in_order(instance, policy.order)
    with (
        mock.patch.object(engine, "MIN_VARIABLES", 10**9),
        mock.patch("bayplan.solver.search.MAX_VARIABLES", 0),
        mock.patch("bayplan.solver.search._MIN_APART", 0),
    ):
        searched = engine.solve(instance, policy, clock=_ticking(), deadline_at=1.0, seed=0)
        result = plan(snapshot, replace(policy, time_limit_s=1.0), clock=_ticking())
    first = greedy.fill(instance, policy.order)

    assert goals.values(instance, order, searched.assignment) >= goals.values(
        instance, order, first
    )
    assert result.refused == ()


def _ticking() -> Callable[[], float]:
    """Return a clock on which each look takes a few milliseconds: searches end by it."""
    ticks = count()
    return lambda: next(ticks) * 0.004


@given(snapshot=clusters(nodes=3, pods=10))
def test_without_minimums_the_stages_are_what_they_were(snapshot: Snapshot) -> None:
    """Fleets that say nothing of minReplicas would be planned for another order."""
    plain = Snapshot.of(snapshot.nodes, [replace(each, min_units=0) for each in snapshot.pods])
    for order in Order:
        names = [goal.name for goal in goals.in_order(build(snapshot), order)]
        before = [goal.name for goal in goals.in_order(build(plain), order)]

        shared = {name.replace(" below minReplicas", "") for name in names}
        assert shared == set(before)
        assert not any("minReplicas" in name for name in before)


@given(snapshot=clusters(nodes=3, pods=10), random=st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(snapshot: Snapshot, random: Random) -> None:
    """Another unit would be needed on each list of the same pods."""
    nodes, pods = list(snapshot.nodes), list(snapshot.pods)
    random.shuffle(nodes)
    random.shuffle(pods)
    shuffled = Snapshot.of(nodes, pods)

    assert made(shuffled) == made(snapshot)
    assert shuffled.digest == snapshot.digest


@given(snapshot=clusters(nodes=3, pods=8))
def test_nobody_of_the_same_tier_goes_for_who_is_needed(snapshot: Snapshot) -> None:
    """A minimum would count for more than what runs."""
    result = made(snapshot)
    placed = {bind.uid for bind in result.plan.binds}
    highest = max((p.priority for p in snapshot.pods if p.uid in placed and p.preempts), default=0)

    assert all(evict.priority < highest for evict in result.plan.evictions)
