"""Keep and fill against brute force and against the direct model, on small irregular fleets."""

from random import Random
from unittest import mock

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bayplan.cluster.constraints import Constraints, Taint, Toleration
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot
from bayplan.policy import Order, Policy
from bayplan.solver import engine, keepfill
from bayplan.solver.problem.counting import build
from bayplan.solver.problem.states import numbered
from bayplan.validate import validate
from tests import oracle
from tests.builders import budget, node, pod
from tests.builders import snapshot as snapshot_of
from tests.property.counted import made
from tests.property.plans import frozen

DEDICATED = Taint(key="dedicated", value="team")
SELECTS_A = Constraints(node_selector=(("type", "a"),))
SELECTS_B = Constraints(node_selector=(("type", "b"),))
TOLERATES = Constraints(tolerations=(Toleration(key="dedicated", operator="Exists"),))


def fleets(*, nodes: int, pods: int, overfull: bool = False) -> st.SearchStrategy[Snapshot]:
    """Return fleets of two node types, with what keep and fill can express; they come from a seed.

    With `overfull`, some nodes hold more than fits, and some pods are on their way out.
    """
    return st.integers(0, 2**32).map(lambda seed: _Fleet(seed, overfull=overfull).made(nodes, pods))


class _Fleet:
    """Draws one fleet."""

    def __init__(self, seed: int, *, overfull: bool) -> None:
        self._random = Random(seed)  # noqa: S311 - an example, not a secret
        self._overfull = overfull
        self._plain = self._random.random() < 0.5
        self._gangs = self._random.random() < 0.5

    def made(self, nodes: int, pods: int) -> Snapshot:
        """Return up to `nodes` nodes and `pods` pods, most of them crowded."""
        hosts = [self._node(f"n{i}") for i in range(self._random.randint(1, nodes))]
        running = [pod for pod in self._placed(hosts, pods * 2 // 3) if pod is not None]
        room = max(1, pods - len(running))
        units = self._units(room // 2) if self._random.random() < 0.4 else []
        waiting = range(self._random.randint(1, max(1, room - len(units))))
        singles = [self._waiting(f"w{i}") for i in waiting]
        random = self._random
        budgets = [
            budget(app, allowed=random.choice([0, 1, 1, 2]), app=app)
            for app in ("a", "b")
            if random.random() < 0.2
        ]
        return snapshot_of(*hosts, *running, *units, *singles, *budgets)

    def _units(self, most: int) -> list[Pod]:
        """Return gangs of two pods that are all alike."""
        gpus = self._random.choice([(1, 1), (4, 2), (3, 1), (4, 4)])
        priority = self._random.choice([0, 10])
        return [
            pod(f"u{u}-{i}", gpus=n, priority=priority, gang=f"u{u}", min_count=2)
            for u in range(self._random.randint(0, most))
            for i, n in enumerate(gpus)
        ]

    def _node(self, name: str) -> Node:
        random = self._random
        return node(
            name,
            gpus=random.choice([4, 4, 8]),
            cpu_milli=random.choice([9000, 12_000]),
            pods=random.choice([2, 110, 110]),
            labels={} if self._plain else {"type": random.choice("ab")},
            taints=(DEDICATED,) if random.random() < 0.1 else (),
            schedulable=random.random() < 0.9,
            ready=random.random() < 0.95,
        )

    def _placed(self, hosts: list[Node], most: int) -> list[Pod | None]:
        count = self._random.randint(0, most)
        free = {host.name: host.allocatable for host in hosts}
        return [self._running(f"r{i}", hosts[i % len(hosts)], free) for i in range(count)]

    def _running(self, name: str, host: Node, free: dict[NodeName, Resources]) -> Pod | None:
        random = self._random
        gang = random.choice([None] * 4 + ["g", "h", "x"]) if self._gangs else None
        made = pod(
            name,
            gang=gang,
            min_count=2 if gang else 0,
            gpus=random.choice([1, 1, 2, 2, 3]),
            cpu_milli=random.choice([0, 2000, 3500]),
            on=host.name,
            priority=random.choice([0, 0, 0, 10]),
            disruption=random.choice([*[Disruption.MOVABLE] * 5, *Disruption]),
            constraints=self._constraints(),
            labels={"app": random.choice("ab")},
            move_cost=random.choice([1, 1, 1, 7]),
            terminating=self._overfull and random.random() < 0.05,
        )
        if not made.requests.fits(free[host.name]) and not (
            self._overfull and random.random() < 0.3
        ):
            return None
        free[host.name] -= made.requests
        return made

    def _waiting(self, name: str) -> Pod:
        random = self._random
        gang = random.choice([None] * 4 + ["x", "x", "y"])
        return pod(
            name,
            gpus=random.choice([0, 1, 2, 3, 4, 4, 8]),
            cpu_milli=random.choice([0, 2000, 5000]),
            priority=random.choice([0, 10, 10, 20]),
            constraints=self._constraints(),
            preempts=random.random() < 0.8,
            gang=gang,
            min_count=2 if gang else 0,
        )

    def _constraints(self) -> Constraints:
        some = [Constraints()] * 4
        return self._random.choice(
            some if self._plain else [*some, SELECTS_A, SELECTS_B, TOLERATES]
        )


def policies() -> st.SearchStrategy[Policy]:
    """Return policies with tight and with wide budgets."""
    return st.builds(
        Policy,
        time_limit_s=st.just(20.0),
        order=st.sampled_from([Order.PLACE_FIRST, *Order]),
        max_moves=st.sampled_from([100, 100, 100, 0, 1, 2]),
        max_evictions=st.sampled_from([100, 100, 0, 1]),
    )


@settings(max_examples=max(settings().max_examples, 300))
@given(snapshot=fleets(nodes=3, pods=6), policy=policies(), sifted=st.booleans())
def test_stages_equal_brute_force(snapshot: Snapshot, policy: Policy, *, sifted: bool) -> None:
    """`Optimal` would not mean optimal."""
    result = made(snapshot, policy, sifted=sifted)
    stages = result.plan.certificate.stages
    names = tuple(stage.name for stage in stages)
    values = tuple(stage.value for stage in stages)

    assert validate(snapshot, policy, result.plan) == ()
    assert all(stage.proved for stage in stages)
    assert oracle.reached(names, values) == oracle.best(snapshot, policy, names)


@given(snapshot=fleets(nodes=6, pods=16, overfull=True), policy=policies())
def test_it_agrees_with_the_direct_model(snapshot: Snapshot, policy: Policy) -> None:
    """Larger fleets, and nodes that hold more than fits, would have another optimum."""
    ours = made(snapshot, policy).plan
    with mock.patch.object(engine, "MIN_VARIABLES", 10**9):
        theirs = engine.solve(build(snapshot), policy, clock=frozen, deadline_at=17.0, seed=0)
    assume(all(stage.proved for stage in theirs.stages))

    assert [(stage.name, stage.value, stage.bound) for stage in ours.certificate.stages] == [
        (stage.name, stage.value, stage.bound) for stage in theirs.stages
    ]
    assert validate(snapshot, policy, ours) == ()


@given(snapshot=fleets(nodes=6, pods=16), random=st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(snapshot: Snapshot, random: Random) -> None:
    """The same fleet would get another plan on each list of its objects."""
    nodes, pods = list(snapshot.nodes), list(snapshot.pods)
    random.shuffle(nodes)
    random.shuffle(pods)

    shuffled = Snapshot(nodes=tuple(nodes), pods=tuple(pods), budgets=snapshot.budgets)

    assert made(shuffled, Policy()) == made(snapshot, Policy())


def teams(*priorities: int) -> Snapshot:
    """Return two nodes of running gangs, a pair of 2-GPU pods each, and a newcomer of 8 GPUs."""
    pods = [
        pod(f"g{g}-{i}", gpus=2, on=f"n{i}", gang=f"g{g}", min_count=2, priority=priority)
        for g, priority in enumerate(priorities)
        for i in range(2)
    ]
    return snapshot_of(node("n0"), node("n1"), *pods, pod("w", gpus=8, priority=10))


def test_running_gangs_that_are_alike_are_counted() -> None:
    """A fleet of thousands of running units would have as many classes of pods."""
    snapshot = teams(0, 0, 10, 10)

    apart, divided = build(snapshot), build(snapshot, divided=True)

    assert (len(apart.classes), keepfill.supports(apart)) == (5, False)
    assert (len(divided.classes), keepfill.supports(divided)) == (3, True)


def test_running_gangs_are_moved_with_a_proof_where_none_has_to_go() -> None:
    """The largest fleets would get greedy plans, which never move anybody."""
    result = made(teams(0, 0), Policy())

    assert result.engine == "keep-and-fill"
    assert (len(result.plan.moves), len(result.plan.evictions)) == (2, 0)
    assert all(stage.proved for stage in result.plan.certificate.stages)


def test_a_running_gang_that_has_to_go_goes_whole() -> None:
    """A gang would be split, or an optimum of another problem claimed."""
    result = made(teams(0, 0, 10), Policy())

    assert result.engine != "keep-and-fill"
    assert len({evict.pod.name[:2] for evict in result.plan.evictions}) == 1
    assert len(result.plan.evictions) == 2
    assert all(stage.proved for stage in result.plan.certificate.stages)


def test_whole_gangs_go_also_where_they_cannot_be_told_apart() -> None:
    """On a large fleet units of a higher priority would wait for ever, or split those that run."""
    with mock.patch.object(engine, "MAX_VARIABLES", 0):
        result = made(teams(0, 0, 10), Policy())

    stages = result.plan.certificate.stages
    assert validate(teams(0, 0, 10), Policy(), result.plan) == ()
    assert result.engine == "keep-and-fill"
    assert len({evict.pod.name[:2] for evict in result.plan.evictions}) == 1
    assert len(result.plan.evictions) == 2
    assert all(stage.proved for stage in stages if stage.name.startswith(("keep", "place")))


@given(snapshot=fleets(nodes=6, pods=16), policy=policies())
def test_bounds_hold_where_gangs_cannot_be_told_apart(snapshot: Snapshot, policy: Policy) -> None:
    """A certificate would call optimal what can be beaten."""
    with mock.patch.object(engine, "MAX_VARIABLES", 0):
        ours = made(snapshot, policy).plan
    with mock.patch.object(engine, "MIN_VARIABLES", 10**9):
        theirs = engine.solve(build(snapshot), policy, clock=frozen, deadline_at=17.0, seed=0)

    assert validate(snapshot, policy, ours) == ()
    for mine, best in zip(ours.certificate.stages, theirs.stages, strict=True):
        if best.name.startswith("disruption"):
            assert mine.bound <= best.value
        else:
            assert mine.bound >= best.value
        if mine.value != best.value:
            break


@given(
    rows=st.lists(
        st.tuples(*[st.integers(-(2**61), 2**61) | st.integers(-1, 1) for _ in range(4)]),
        max_size=12,
    )
)
def test_rows_are_numbered_by_their_first_appearance(rows: list[tuple[int, ...]]) -> None:
    """Two node states that got one number would be planned as one, whatever is on them."""
    numbers = {row: n for n, row in enumerate(dict.fromkeys(rows))}
    of_row, first = numbered(np.array(rows, dtype=np.int64).reshape(len(rows), 4))

    assert of_row.tolist() == [numbers[row] for row in rows]
    assert first.tolist() == [rows.index(row) for row in numbers]
