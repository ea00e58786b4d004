"""Which stages a certificate has to tell of, in which order, and what verdict follows."""

from dataclasses import replace

import pytest

from bayplan.cluster.constraints import (
    Constraints,
    GangTopology,
    NodeTerm,
    Preference,
    Requirement,
)
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.plan import Bind, Certificate, Hold, Plan, Stage, Verdict
from bayplan.policy import Order, Policy
from bayplan.validate import reached, validate
from bayplan.validate.evidence import gather
from bayplan.validate.stages import in_order
from tests.builders import node, pod, snapshot
from tests.scenes.validate import N0, N1, bind, evict, hold, planned

RUNS = tuple(pod(f"r-{p}", on="n", gpus=8, priority=p) for p in (0, 10))
WAIT = tuple(pod(f"w-{p}", priority=p) for p in (10, 5, 0))
GENTLE = tuple(pod(f"g-{p}", priority=p, preempts=False) for p in (20, 10, 0))
NEEDED = tuple(
    pod(f"u-{i}", gang=f"u-{i}", min_count=1, owner="u", min_units=1, preempts=i > 0)
    for i in range(2)
)
FULL = node("n", gpus=0)

WOULD = Constraints(
    prefers=(
        Preference(
            weight=1,
            term=NodeTerm(labels=(Requirement(key="model", operator="Exists"),)),
        ),
    )
)
FIXED = Disruption.FIXED


def named(*things: Node | Pod, order: Order = Order.PLACE_FIRST) -> list[str]:
    """Return the stages of a cluster."""
    nothing = Plan(certificate=Certificate(order=order, verdict=Verdict.UNCHANGED))
    return [*in_order(gather(snapshot(*things), Policy(order=order), nothing))]


def slots(*things: Node | Pod) -> list[int]:
    """Return the sizes of slots that may be free in a cluster."""
    free = [name for name in named(*things) if name.startswith("free ")]
    return [int(name.removeprefix("free ").removesuffix("-GPU slots")) for name in free]


def team(*pods: str, preferred: int, size: int = 2, runs: int = 0) -> tuple[Pod, ...]:
    """Return a gang that would like to be inside one domain of so many labels."""
    topology = GangTopology(preferred=tuple(f"label-{i}" for i in range(preferred)))
    return tuple(
        pod(
            name,
            gang=pods[0],
            min_count=size,
            topology=topology,
            on="n" if i < runs else None,
            disruption=FIXED,
        )
        for i, name in enumerate(pods)
    )


def test_each_tier_is_kept_then_placed_then_protected() -> None:
    """A plan that puts the lower tier first would count as proved."""
    assert named(FULL, *RUNS, *WAIT, *GENTLE, *NEEDED, order=Order.PROTECT_FIRST) == [
        *("keep 10", "place 10", "disruption from 10", "place 5", "keep 0"),
        # Nobody goes for them, so nobody is below them.
        *("place 20 without preemption", "place 10 without preemption"),
        *("place 0 below minReplicas without preemption", "place 0"),
        *("place 0 without preemption", "disruption from 0"),
    ]


def test_who_preempts_nobody_has_its_turn_where_nobody_runs() -> None:
    """Its own tier would be looked at after all others, or not at all."""
    assert named(FULL, *WAIT, *GENTLE) == [
        *("place 20 without preemption", "place 10", "place 10 without preemption"),
        *("place 5", "place 0", "place 0 without preemption", "disruption"),
    ]


@pytest.mark.parametrize("order", [Order.PLACE_FIRST, Order.DEFRAGMENT])
def test_a_defragmentation_looks_at_the_largest_slots_before_what_they_cost(order: Order) -> None:
    """It would move nobody, or the largest slots would be given up for a wish."""
    wishes = (*team("a", "b", preferred=2), pod("w", constraints=WOULD))
    free = [f"free {size}-GPU slots" for size in (4, 2, 1)]
    first = 1 if order is Order.DEFRAGMENT else 0

    assert named(node("n", gpus=4), *wishes, order=order) == [
        *("place 0", *free[:first], "disruption", "topology 1", "topology 2", "preference"),
        *free[first:],
    ]


@pytest.mark.parametrize(
    ("things", "count"),
    [
        ((*team("a", "b", preferred=1), *team("c", "d", preferred=2)), 2),
        ((*team("a", "b", preferred=2), *team("c", "d", preferred=1)), 2),
        (team("a", "b", "c", preferred=1, runs=1), 0),
        (team("a", "b", preferred=1, size=3), 0),
        (team("a", "b", preferred=0), 0),
    ],
    ids=["the later says more", "the earlier", "part of it runs", "a pod is missing", "no wish"],
)
def test_new_gangs_may_wish_for_a_domain(things: tuple[Pod, ...], count: int) -> None:
    """A stage would be asked for that no plan can fill, or one be forgotten."""
    assert sum(name.startswith("topology ") for name in named(FULL, *things)) == count


@pytest.mark.parametrize(
    ("one", "counts"),
    [
        (pod("w", constraints=WOULD), True),
        (pod("w", constraints=WOULD, gang="g", min_count=2), False),
        (pod("r", on="n", constraints=WOULD), True),
        (pod("r", on="n", constraints=WOULD, disruption=Disruption.EVICTABLE), False),
        (pod("r", on="n", constraints=WOULD, disruption=FIXED), False),
    ],
    ids=["waits", "of a gang that lacks pods", "may be moved", "may be evicted", "stays"],
)
def test_who_may_come_to_a_node_may_prefer_some(one: Pod, *, counts: bool) -> None:
    """A stage would be asked for that no plan can fill, or one be forgotten."""
    assert ("preference" in named(FULL, one, pod("other"))) is counts


@pytest.mark.parametrize(
    ("things", "sizes"),
    [
        ([node("n", gpus=8)], [8, 4, 2, 1]),
        ([node("n", gpus=7), node("m", gpus=2)], [4, 2, 1]),
        ([node("n", gpus=8, schedulable=False), node("m", gpus=1)], [1]),
        ([node("n", gpus=8, ready=False), node("m", gpus=1)], [1]),
        ([node("n", gpus=8), pod("f", on="n", gpus=5, disruption=FIXED)], [2, 1]),
        ([node("n", gpus=8), pod("l", on="n", gpus=5, terminating=True)], [2, 1]),
        ([node("n", gpus=8), pod("m", on="n", gpus=5)], [8, 4, 2, 1]),
        ([node("n", gpus=2), pod("f", on="n", gpus=9, disruption=FIXED)], []),
        ([node("n", gpus=2), pod("f", on="gone", gpus=2, disruption=FIXED)], [2, 1]),
    ],
    ids=[
        *("an empty node", "several", "one is cordoned", "one is not ready", "a pod stays"),
        "a pod is leaving",
        *("a pod may go", "over-full", "a pod on a node that is gone"),
    ],
)
def test_slots_of_which_there_could_be_any(things: list[Node | Pod], sizes: list[int]) -> None:
    """A stage would be asked for that no plan can fill, or one be forgotten."""
    assert slots(*things) == sizes


def test_a_gpu_that_is_shared_is_no_slot() -> None:
    """Slots would be promised that no plan can leave free."""
    both = [pod(f"s-{i}", on="n", share=300, device=0, disruption=FIXED) for i in range(2)]
    other = pod("other", on="n", share=300, device=1, disruption=FIXED)
    lost = [pod(f"l-{i}", on="n", share=300, disruption=FIXED) for i in range(2)]
    whole = pod("whole", on="n", gpus=1, disruption=FIXED)

    assert slots(node("n", gpus=3), *both) == [2, 1]
    assert slots(node("n", gpus=3), *both, other) == [1]
    assert slots(node("n", gpus=3), *lost) == [1]
    assert slots(node("n", gpus=3), whole, *both) == [1]
    # As many on either node, not all on one.
    moved = [replace(each, node=node("m").name) for each in both[1:]]
    assert slots(node("n", gpus=2), node("m", gpus=1), both[0], *moved) == [1]


def test_wishes_of_those_who_come_are_added_up() -> None:
    """A certificate could claim wishes that nobody has, or that nobody fulfils."""
    wish, plain = pod("a", constraints=WOULD), pod("b")
    of = snapshot(node("n0", labels={"model": "x"}), node("n1"), wish, plain)

    def fulfilled(*actions: Bind | Hold) -> int:
        return reached(of, Policy(), planned(*actions))["preference"]

    assert fulfilled(bind(wish, N0), bind(plain, N1)) == 1
    assert fulfilled(bind(wish, N1), bind(plain, N0)) == 0
    assert fulfilled(hold(wish), bind(plain, N0)) == 0
    assert fulfilled(bind(wish, NodeName("gone")), bind(plain, N0)) == 0


def test_whoever_is_evicted_is_kept_no_longer() -> None:
    """The first or the last pod of a cluster would be counted as another one."""
    first, last, gone = (pod(name, on="n0") for name in ("a", "z", "gone"))
    of = snapshot(node("n0"), first, last)

    kept = [reached(of, Policy(), planned(evict(each)))["keep 0"] for each in (first, last, gone)]

    assert kept == [1, 1, 2]


def test_what_is_proved_of_all_who_might_be_placed_is_infeasible() -> None:
    """People would buy nodes for pods that only lack a better search, or wait for such a search."""
    high, low = pod("high", priority=10), pod("low")

    def verdicts(*bounds: int, pods: tuple[Pod, ...] = (high, low)) -> set[Verdict]:
        names = named(FULL, *pods)[: len(bounds)]
        stages = tuple(
            Stage(name=name, value=0, bound=bound)
            for name, bound in zip(names, bounds, strict=True)
        )
        claims = (
            Plan(
                certificate=Certificate(order=Order.PLACE_FIRST, verdict=verdict, stages=stages),
                holds=tuple(map(hold, pods)),
            )
            for verdict in Verdict
        )
        of = snapshot(FULL, *pods)
        return {claim.certificate.verdict for claim in claims if not validate(of, Policy(), claim)}

    assert verdicts() == verdicts(0) == verdicts(1) == {Verdict.UNCHANGED}
    assert verdicts(1, 0) == verdicts(0, 1) == {Verdict.UNCHANGED}
    assert verdicts(0, 0) == verdicts(0, 0, -1) == verdicts(0, 0, 0) == {Verdict.INFEASIBLE}
    # Nothing is to be proved of a gang that lacks pods.
    assert verdicts(pods=(pod("g", gang="g", min_count=2),)) == {Verdict.INFEASIBLE}
    assert verdicts(0, pods=()) == {Verdict.OPTIMAL}
    assert verdicts(pods=()) == {Verdict.UNCHANGED}
