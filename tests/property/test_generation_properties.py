"""No bound over whole nodes is too strict, and what mixes make of a placement is better."""

from itertools import count, product
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bayplan.cluster.pods import Disruption
from bayplan.cluster.snapshot import Snapshot
from bayplan.policy import Policy
from bayplan.solver.bounds import mixes
from bayplan.solver.bounds.mixes import Nodes, Prices
from bayplan.solver.exact.constraints import allowed
from bayplan.solver.problem.counting import build
from bayplan.solver.problem.instance import Counts
from tests.builders import node, pod
from tests.builders import snapshot as snapshot_of
from tests.property.plans import policies, snapshots
from tests.property.whole_nodes import check, proved, starts


def crowded(*, nodes: int, pods: int) -> st.SearchStrategy[Snapshot]:
    """Return clusters of pods with odd requests for CPU and memory that hardly fit beside others.

    They come from a seed, as in `snapshots`.
    """
    return st.integers(0, 2**32).map(lambda seed: _crowded(seed, nodes, pods))


def _crowded(seed: int, nodes: int, pods: int) -> Snapshot:
    random = Random(seed)  # noqa: S311 - an example, not a secret
    count = random.randint(1, nodes)
    fleet = [
        node(f"n{i}", gpus=0, cpu_milli=random.choice([20, 20, 24]), memory_mib=20)
        for i in range(count)
    ]
    free = [[int(each.allocatable["cpu"]), int(each.allocatable["memory"])] for each in fleet]
    kinds = [(random.randint(1, 11), random.randint(0, 11)) for _ in range(pods)]
    things = []
    for i in range(pods):
        cpu, memory = random.choice(kinds)
        home = next((n for n, (c, m) in enumerate(free) if cpu <= c and memory <= m), None)
        if home is not None and random.random() < 0.8:
            free[home][0] -= cpu
            free[home][1] -= memory
        else:
            home = None
        things.append(
            pod(
                f"p{i}",
                gpus=0,
                cpu_milli=cpu,
                memory_mib=memory,
                on=None if home is None else f"n{home}",
                priority=random.choice([0, 0, 10]),
                disruption=random.choice([*[Disruption.MOVABLE] * 6, *Disruption]),
                move_cost=random.choice([1, 1, 1, 3]),
            )
        )
    return snapshot_of(*fleet, *things)


@settings(max_examples=40)
@given(snapshot=crowded(nodes=3, pods=6), policy=policies())
def test_no_bound_is_too_strict(snapshot: Snapshot, policy: Policy) -> None:
    """A plan would be certified although a better one exists."""
    check(snapshot, policy)


@settings(max_examples=15)
@given(snapshot=snapshots(nodes=3, pods=6), policy=policies())
def test_no_bound_of_gangs_is_too_strict(snapshot: Snapshot, policy: Policy) -> None:
    """A rule that only some plans are under would be taken for one of all."""
    check(snapshot, policy)


@settings(max_examples=20)
@given(snapshot=crowded(nodes=4, pods=10))
def test_what_room_alone_decides_is_proved(snapshot: Snapshot) -> None:
    """Bounds would hold and say little, and placements that are better would not be found."""
    policy = Policy(time_limit_s=60.0, max_moves=100, max_evictions=100)
    instance = build(snapshot)
    for position, goal, start in starts(instance, policy):
        proof = proved(instance, policy, position, start)
        best = start if proof.assignment is None else proof.assignment
        assert allowed(instance, policy, best)
        limited = goal.limit(instance) != goal.value(instance, best)
        assert not limited or proof.bound == goal.value(instance, best) * (
            -1 if goal.maximise else 1
        )


def listed(nodes: Nodes, prices: Prices) -> list[set[tuple[int, ...]]]:
    """Return by class of nodes all mixes as (value, keep, arrivals by class), one by one."""
    found: list[set[tuple[int, ...]]] = [set() for _ in nodes.states.sizes]
    for keep, owner in enumerate(nodes.states.owner.tolist()):
        kept = nodes.states.keeps[keep]
        most = np.where(nodes.welcome[owner], nodes.pods, 0)
        for fill in product(*(range(int(pods) + 1) for pods in most)):
            arrivals: Counts = np.array(fill, dtype=np.int64)
            if (arrivals @ nodes.asks <= nodes.room[keep]).all():
                value = int(kept @ (prices.worth + prices.stay) + arrivals @ prices.worth)
                found[owner].add((value, keep, *fill))
    return found


@given(
    snapshot=crowded(nodes=3, pods=6),
    seed=st.integers(0, 2**32),
    width=st.sampled_from([1, 2, 1000]),
    steps=st.sampled_from([0, 1, 2, 1000]),
    anchors=st.booleans(),
)
def test_no_mix_is_worth_more_than_is_said(
    snapshot: Snapshot, seed: int, width: int, steps: int, *, anchors: bool
) -> None:
    """The bound is as true as this: a mix that is missed makes it too strict."""
    instance = build(snapshot)
    anchored = instance.running if anchors else np.where(instance.arrivals, 0, instance.running)
    nodes = mixes.nodes_of(instance, anchored)
    if nodes is None:
        return
    random = np.random.default_rng(seed)
    amounts = random.integers(0, 12, size=(2, len(instance.classes)))
    prices = Prices(worth=amounts[0] * random.choice([1, 1 << 20]), stay=amounts[1] - 3)
    all_mixes = listed(nodes, prices)
    most = np.array([max(value for value, *_ in some) for some in all_mixes], dtype=np.int64)
    floor = most - random.integers(0, 1 + most.max(initial=0), size=len(most))

    ticks = count()
    offer, above = (
        search(nodes, prices, floor, width=width, ended=lambda: next(ticks) >= steps)
        for search in (mixes.best, mixes.above)
    )

    assert steps or not offer.pairs + above.pairs
    assert (offer.most >= most).all()
    assert not offer.exact or (offer.most == most).all()
    for keep, fill in zip(offer.keeps.tolist(), offer.fills.tolist(), strict=True):
        owner = nodes.states.owner[keep]
        value = prices.worth @ fill + nodes.states.keeps[keep] @ (prices.worth + prices.stay)
        assert (int(value), keep, *fill) in all_mixes[owner]
        assert value > floor[owner]
    if above.exact:
        expected = [
            (keep, *fill)
            for some, least in zip(all_mixes, floor, strict=True)
            for value, keep, *fill in some
            if value > least
        ]
        found = [
            (keep, *fill)
            for keep, fill in zip(above.keeps.tolist(), above.fills.tolist(), strict=True)
        ]
        assert sorted(found) == sorted(expected)
    assert min(width, steps) < 1000 or above.exact
