"""Shares of GPUs: packings, bounds and plans against brute force."""

from collections import Counter
from dataclasses import replace
from itertools import product
from random import Random

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bayplan.cluster import shares, units
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Reason
from bayplan.planner import plan
from bayplan.policy import Order, Policy
from bayplan.preparation import on_listed_gpus
from bayplan.solver import engine
from bayplan.solver.problem.counting import build
from bayplan.validate import validate
from tests import oracle
from tests.builders import GPU, node, pod
from tests.builders import snapshot as snapshot_of
from tests.property.plans import POLICY, frozen

SIZES = st.sampled_from([100, 200, 300, 333, 400, 500, 501, 600, 700, 810, 950])


def brute_force(sizes: list[int], holes: list[int]) -> int:
    """Return the fewest empty GPUs that are needed, by trying every place for every share."""
    best = len(sizes)
    for where in product(range(len(holes) + len(sizes)), repeat=len(sizes)):
        loads: Counter[int] = Counter()
        for place, size in zip(where, sizes, strict=True):
            loads[place] += size
        room = [*holes, *[1000] * len(sizes)]
        if all(load <= room[place] for place, load in loads.items()):
            best = min(best, sum(place >= len(holes) for place in loads))
    return best


# The tightest place for each is not the best for all.
@example(sizes=[650, 510, 350, 400], holes=[950])
@example(sizes=[600, 400, 300, 550, 400], holes=[600, 700])
@example(sizes=[300, 400, 600, 400], holes=[800, 900])
@given(sizes=st.lists(SIZES, max_size=4), holes=st.lists(st.integers(-100, 999), max_size=3))
def test_no_packing_needs_fewer_gpus(sizes: list[int], holes: list[int]) -> None:
    """A share would be refused that fits, or let in where it does not."""
    assert shares.fewest(sizes, holes) == brute_force(sizes, holes)


@given(sizes=st.lists(SIZES, max_size=14), holes=st.lists(st.integers(-100, 999), max_size=4))
def test_each_share_gets_a_gpu_with_room(sizes: list[int], holes: list[int]) -> None:
    """Two shares would land on one GPU that has not room for both."""
    where = shares.places(sizes, holes)

    loads: Counter[int] = Counter()
    for place, size in zip(where, sizes, strict=True):
        loads[place] += size
    assert all(n <= (holes[at] if at < len(holes) else 1000) for at, n in loads.items())
    empty = {place for place in where if place >= len(holes)}
    assert len(empty) == shares.fewest(sizes, holes)


def _share_cluster(seed: int) -> Snapshot:
    """Return a few nodes, most of whose GPUs are shared already, and pods that wait for more."""
    random = Random(seed)  # noqa: S311 - an example, not a secret
    fleet = [node(f"n{i}", gpus=random.choice([1, 2, 2, 3])) for i in range(random.randint(1, 3))]
    sizes = random.sample([150, 250, 300, 334, 400, 500, 600, 700, 810], 3)
    left = {(each.name, d): 1000 for each in fleet for d in range(each.allocatable[GPU])}
    things: list[Pod] = []
    for i in range(random.randint(0, 4)):
        where, device = random.choice(sorted(left))
        share = random.choice(sizes)
        priority = random.choice([0, 0, 10])
        kind = random.choice([*[Disruption.MOVABLE] * 3, *Disruption])
        if left[where, device] == 1000 and random.random() < 0.3:
            left[where, device] = 0
            things.append(pod(f"r{i}", gpus=1, disruption=kind, on=where, priority=priority))
        elif left[where, device] >= share:
            left[where, device] -= share
            known = random.random() < 0.9 or left[where, device] + share < 1000
            # Who shares a GPU that nobody knows stays, and nobody knows of it being shared.
            left[where, device] = left[where, device] if known else 0
            things.append(
                pod(
                    f"r{i}",
                    share=share,
                    device=device if known else None,
                    disruption=kind if known else Disruption.FIXED,
                    on=where,
                    priority=priority,
                )
            )
    for i in range(random.randint(1, 6 - len(things))):
        whole = random.random() < 0.25
        things.append(
            pod(
                f"w{i}",
                gpus=random.choice([1, 1, 2]),
                share=0 if whole else random.choice(sizes),
                priority=random.choice([0, 10, 20]),
            )
        )
    return snapshot_of(*fleet, *things)


CLUSTERS = st.integers(0, 2**32).map(_share_cluster)
POLICIES = st.builds(
    Policy,
    time_limit_s=st.just(20.0),
    order=st.sampled_from([Order.PLACE_FIRST, Order.PLACE_FIRST, *Order]),
    max_moves=st.sampled_from([100, 100, 0, 1]),
    max_evictions=st.sampled_from([100, 100, 0, 1]),
)


@given(snapshot=CLUSTERS, policy=POLICIES)
def test_plans_with_shares_are_valid_and_no_bound_is_beaten(
    snapshot: Snapshot, policy: Policy
) -> None:
    """Two shares of 0.6 would land on one GPU, or a certificate would claim what is not so."""
    instance = build(snapshot, divided=True)
    found = engine.solve(instance, policy, clock=frozen, deadline_at=17.0, seed=0)

    result = plan(snapshot, policy, clock=frozen)

    assert validate(snapshot, policy, result.plan) == ()
    # The engine's own answer passed, not a simpler one in its place.
    assert result.plan.certificate.stages == found.stages
    names = tuple(stage.name for stage in found.stages)
    optimum = oracle.best(snapshot, policy, names)
    bounds = oracle.reached(names, tuple(stage.bound for stage in found.stages))
    reached = oracle.reached(names, tuple(stage.value for stage in found.stages))
    assert reached <= optimum <= bounds


@settings(max_examples=max(settings().max_examples, 200))
@given(snapshot=CLUSTERS)
def test_small_plans_with_shares_are_the_best_there_are(snapshot: Snapshot) -> None:
    """A share would wait though it fits, or somebody would move in vain."""
    result = plan(snapshot, POLICY, clock=frozen)

    stages = result.plan.certificate.stages
    names = tuple(stage.name for stage in stages)
    reached = oracle.reached(names, tuple(stage.value for stage in stages))
    assert reached == oracle.best(snapshot, POLICY, names)
    assert all(stage.proved for stage in stages)


@given(snapshot=CLUSTERS, random=st.randoms(use_true_random=False))
def test_shares_get_the_same_gpus_in_any_order_of_the_input(
    snapshot: Snapshot, random: Random
) -> None:
    """The same cluster would get another plan on each list of its objects."""
    nodes, pods = list(snapshot.nodes), list(snapshot.pods)
    random.shuffle(nodes)
    random.shuffle(pods)
    shuffled = Snapshot(nodes=tuple(nodes), pods=tuple(pods))

    assert plan(snapshot, POLICY, clock=frozen).plan == plan(shuffled, POLICY, clock=frozen).plan


@given(sizes=st.lists(SIZES, min_size=1, max_size=8), gpus=st.integers(1, 4))
def test_what_fits_on_gpus_fits_in_every_column(sizes: list[int], gpus: int) -> None:
    """A bound would rule out what can be done."""
    pods = [pod(f"w{i}", share=size) for i, size in enumerate(sizes)]
    instance = build(snapshot_of(node("n", gpus=gpus), *pods))
    used = instance.wait_totals @ instance.requests
    columns = [k for k, name in enumerate(instance.resources) if name.startswith("gpu column")]

    assert columns
    if shares.fewest(sizes, []) <= gpus:
        assert (used[columns] <= instance.room[0, columns]).all()
    else:
        # One more GPU would do, so it is no column's business any more.
        enough = build(snapshot_of(node("n", gpus=len(sizes)), *pods))
        assert (used[columns] <= enough.room[0, columns]).all()


@given(
    whole=st.integers(0, 3),
    wanted=st.lists(SIZES, max_size=3),
    busy=st.dictionaries(st.integers(0, 3), st.one_of(SIZES, st.just(1100)), max_size=3),
    gpus=st.integers(0, 4),
)
def test_room_for_shares_is_what_packing_says(
    whole: int, wanted: list[int], busy: dict[int, int], gpus: int
) -> None:
    """What is refused for a reason, and what is released, would differ from what was planned."""
    room = Resources.of({GPU: gpus}) - Resources.of({units.part(d): n for d, n in busy.items()})
    asks = Resources.of({GPU: whole})
    for size in wanted:
        asks += Resources.of({units.share(size): 1})

    holes = [1000 - load for load in busy.values()]
    if gpus < len(busy) or any(hole < 0 for hole in holes):
        fits = not whole and not wanted
    else:
        fits = whole + brute_force(wanted, holes) <= gpus - len(busy)
    assert asks.fits(room) == fits
    assert (not asks.shortfall(room).items) == fits


def _crowd(seed: int) -> Snapshot:
    """Return nodes on whose GPUs there may be more than fits, and one pod that waits."""
    random = Random(seed)  # noqa: S311 - an example, not a secret
    fleet = [node(f"n{i}", gpus=random.randint(1, 3)) for i in range(random.randint(1, 2))]
    movable = random.random() < 0.5
    things: list[Pod] = []
    for i in range(random.randint(1, 5)):
        whole, known = random.random() < 0.2, random.random() < 0.8
        things.append(
            pod(
                f"r{i}",
                gpus=1,
                share=0 if whole else random.choice([300, 400, 600]),
                device=random.randint(0, 2) if known and not whole else None,
                on=random.choice(fleet).name,
                disruption=Disruption.MOVABLE if movable and known else Disruption.FIXED,
            )
        )
    gpus, share = random.choice([(0, 0), (0, 0), (1, 0), (1, 300), (1, 600)])
    return on_listed_gpus(snapshot_of(*fleet, *things, pod("w", gpus=gpus, share=share)))


@given(snapshot=st.integers(0, 2**32).map(_crowd))
def test_a_plan_brings_who_fits_beside_a_crowd_and_nobody_else(snapshot: Snapshot) -> None:
    """Planner, explainer and webhook would say different things of a node that is over-full."""
    waiting = snapshot.by_key[pod("w").key]
    fits = [name for name, room in snapshot.free().items() if waiting.requests.fits(room)]

    result = plan(snapshot, replace(POLICY, max_moves=0), clock=frozen)

    assert result.refused == ()
    assert {bind.node for bind in result.plan.binds} <= {*fits}
    assert bool(result.plan.binds) == bool(fits)
    assert all(stage.proved for stage in result.plan.certificate.stages)
    told = {hold.rejection.reason for hold in result.plan.holds}
    assert Reason.NO_PLACE_FOUND not in told


@given(snapshot=st.integers(0, 2**32).map(_crowd))
def test_plans_around_a_crowd_are_valid_and_proved(snapshot: Snapshot) -> None:
    """One node that is over-full would leave a cluster without any plan."""
    result = plan(snapshot, POLICY, clock=frozen)

    assert result.refused == ()
    assert all(stage.proved for stage in result.plan.certificate.stages)


def test_equal_shares_on_equal_nodes_cost_one_packing() -> None:
    """Large clusters would pack the same shares node by node."""
    nodes = [node(f"n{i}", gpus=4) for i in range(50)]
    things = [pod(f"r{i}-{d}", share=600, on=f"n{i}", device=d) for i in range(50) for d in (0, 1)]
    instance = build(snapshot_of(*nodes, *things))

    assert instance.devices is not None
    assert (instance.devices.all_held(instance.running) == 2).all()
    assert np.unique(instance.left(instance.running)[:, instance.devices.column]).tolist() == [2]
