"""Keep and fill against brute force and against the direct model, on small irregular fleets."""

from random import Random
from unittest import mock

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bayplan.plan import Result
from bayplan.planner import plan
from bayplan.policy import Order, Policy
from bayplan.snapshot import (
    Constraints,
    Disruption,
    Node,
    NodeName,
    Pod,
    Resources,
    Snapshot,
    Taint,
    Toleration,
)
from bayplan.solver import engine, keepfill
from bayplan.solver.engine import Solution
from bayplan.solver.instance import Instance, build
from bayplan.validate import validate
from tests import oracle
from tests.builders import budget, node, pod
from tests.builders import snapshot as snapshot_of

DEDICATED = Taint(key="dedicated", value="team")
SELECTS_A = Constraints(node_selector=(("type", "a"),))
SELECTS_B = Constraints(node_selector=(("type", "b"),))
TOLERATES = Constraints(tolerations=(Toleration(key="dedicated", operator="Exists"),))


def frozen() -> float:
    """Return a clock that stands still."""
    return 0.0


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
        made = pod(
            name,
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


def counted(instance: Instance, policy: Policy) -> Solution:
    """Return what keep and fill says, whatever the size of the instance."""
    with mock.patch.object(engine, "MIN_VARIABLES", 0):
        return engine.solve(instance, policy, clock=frozen, deadline_at=17.0, seed=0)


def made(snapshot: Snapshot, policy: Policy) -> Result:
    """Return the plan of keep and fill."""
    with mock.patch.object(engine, "MIN_VARIABLES", 0):
        return plan(snapshot, policy, clock=frozen)


@settings(max_examples=max(settings().max_examples, 300))
@given(snapshot=fleets(nodes=3, pods=6), policy=policies())
def test_stages_equal_brute_force(snapshot: Snapshot, policy: Policy) -> None:
    """`Optimal` would not mean optimal."""
    result = made(snapshot, policy)
    stages = result.plan.certificate.stages
    names = tuple(stage.name for stage in stages)
    values = tuple(stage.value for stage in stages)

    assert validate(snapshot, policy, result.plan) == ()
    assert all(stage.proved for stage in stages)
    assert oracle.reached(names, values) == oracle.best(snapshot, policy, names)


@given(snapshot=fleets(nodes=6, pods=16, overfull=True), policy=policies())
def test_it_agrees_with_the_direct_model(snapshot: Snapshot, policy: Policy) -> None:
    """Larger fleets, and nodes that hold more than fits, would have another optimum."""
    instance = build(snapshot)
    ours = counted(instance, policy)
    with mock.patch.object(engine, "MIN_VARIABLES", 10**9):
        theirs = engine.solve(instance, policy, clock=frozen, deadline_at=17.0, seed=0)
    assume(all(stage.proved for stage in theirs.stages))

    assert [(stage.name, stage.value, stage.bound) for stage in ours.stages] == [
        (stage.name, stage.value, stage.bound) for stage in theirs.stages
    ]
    assert validate(snapshot, policy, made(snapshot, policy).plan) == ()


@given(snapshot=fleets(nodes=6, pods=16), random=st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(snapshot: Snapshot, random: Random) -> None:
    """The same fleet would get another plan on each list of its objects."""
    nodes, pods = list(snapshot.nodes), list(snapshot.pods)
    random.shuffle(nodes)
    random.shuffle(pods)

    shuffled = Snapshot(nodes=tuple(nodes), pods=tuple(pods), budgets=snapshot.budgets)

    assert made(shuffled, Policy()) == made(snapshot, Policy())


def test_a_running_gang_that_may_be_evicted_is_left_to_others() -> None:
    """It would be split, or an optimum of another problem claimed."""
    team = [pod(f"g{i}", on="n", gang="g", min_count=2) for i in range(2)]
    unit = [pod(f"u{i}", gang="u", min_count=2) for i in range(2)]

    assert keepfill.supports(build(Snapshot.of([node("n")], unit)), Policy())
    mixed = build(Snapshot.of([node("n")], [*team, *unit]))
    assert not keepfill.supports(mixed, Policy())
    assert keepfill.supports(mixed, Policy(max_evictions=0))
