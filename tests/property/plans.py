"""Clusters with gangs, budgets and little room, and the plans that are made for them."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from hypothesis import strategies as st

from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Action, Bind, Certificate, Move, Plan, Result, Verdict, plan_of
from bayplan.planner import plan
from bayplan.policy import Order, Policy
from tests import oracle
from tests.builders import budget, node, pod
from tests.builders import snapshot as snapshot_of
from tests.scenes.validate import bind, evict, hold, move

#: No wall clock: only the deterministic limit ends a stage.
POLICY = Policy(time_limit_s=20.0)


def frozen() -> float:
    """Return a clock that stands still."""
    return 0.0


def snapshots(*, nodes: int = 4, pods: int = 10) -> st.SearchStrategy[Snapshot]:
    """Return clusters of up to `nodes` nodes and `pods` pods, with gangs, most of them crowded.

    They come from a seed: drawn one by one, values would cluster at the simple end, where
    nothing has to be moved.
    """
    return st.integers(0, 2**32).map(lambda seed: _cluster(seed, nodes, pods))


def _cluster(seed: int, nodes: int, pods: int) -> Snapshot:
    random = Random(seed)  # noqa: S311 - an example, not a secret
    sizes = [random.choice([4, 4, 8]) for _ in range(random.randint(1, nodes))]
    fleet = [
        node(f"n{i}", gpus=gpus, schedulable=random.random() < 0.95) for i, gpus in enumerate(sizes)
    ]
    things: list[Pod] = []
    free = dict(enumerate(sizes))
    for i in range(random.randint(0, pods * 2 // 3)):
        # Room in pieces is what makes a case hard, so nodes are filled in turn and in part.
        gpus = random.choice([1, 1, 2, 2, 3])
        if gpus < free[i % len(fleet)]:
            free[i % len(fleet)] -= gpus
            things.append(_running(random, f"r{i}", f"n{i % len(fleet)}", gpus))
    waiting = range(random.randint(1, max(1, pods - len(things))))
    budgets = [
        budget(app, allowed=random.choice([0, 1, 1, 2]), app=app)
        for app in ("a", "b")
        if random.random() < 0.3
    ]
    return snapshot_of(*fleet, *things, *(_waiting(random, f"w{i}") for i in waiting), *budgets)


def _running(random: Random, name: str, host: str, gpus: int) -> Pod:
    gang = random.choice([None, None, None, "run", "both"])
    return pod(
        name,
        gpus=gpus,
        on=host,
        priority=random.choice([0, 0, 0, 10]),
        disruption=random.choice([*[Disruption.MOVABLE] * 5, *Disruption]),
        labels={"app": random.choice("ab")},
        move_cost=random.choice([1, 1, 1, 7]),
        gang=gang,
        min_count=2 if gang else 0,
    )


def _waiting(random: Random, name: str) -> Pod:
    gang = random.choice([None] * 5 + ["x", "x", "y", "both"])
    return pod(
        name,
        gpus=random.choice([1, 2, 3, 4, 4, 8]),
        priority=random.choice([0, 10, 10, 20]),
        preempts=random.random() < 0.8,
        gang=gang,
        min_count=2 if gang else 0,
    )


def policies() -> st.SearchStrategy[Policy]:
    """Return policies with tight and with wide budgets."""
    return st.builds(
        Policy,
        time_limit_s=st.just(20.0),
        order=st.sampled_from([Order.PLACE_FIRST, *Order]),
        max_moves=st.sampled_from([100, 100, 0, 1]),
        max_evictions=st.sampled_from([100, 100, 0, 1]),
    )


def made(snapshot: Snapshot, policy: Policy = POLICY) -> Result:
    """Return the plan, made without a wall clock."""
    return plan(snapshot, policy, clock=frozen)


def applied(snapshot: Snapshot, what: Plan) -> Snapshot:
    """Return the snapshot after the plan was carried out; evicted pods do not come back."""
    homes = {bind.uid: bind.node for bind in what.binds}
    homes |= {move.uid: move.target for move in what.moves}
    gone = {evict.uid for evict in what.evictions}
    pods = [
        replace(each, node=homes[each.uid], waiting=False) if each.uid in homes else each
        for each in snapshot.pods
        if each.uid not in gone
    ]
    return Snapshot.of(snapshot.nodes, pods, snapshot.budgets)


def plan_for(snapshot: Snapshot, places: oracle.Places, policy: Policy) -> Plan:
    """Return the plan that puts everybody there, and claims nothing of itself."""
    actions = tuple(_actions(snapshot, places))
    does = any(isinstance(each, Bind | Move) for each in actions)
    verdict = Verdict.IMPROVED if does else Verdict.UNCHANGED
    return plan_of(Certificate(order=policy.order, verdict=verdict), actions)


def _actions(snapshot: Snapshot, places: oracle.Places) -> Iterator[Action]:
    for each, place in zip(snapshot.pods, places, strict=True):
        if each.waiting:
            yield hold(each) if place is None else bind(each, place)
        elif place is None:
            yield evict(each)
        elif place != each.node:
            yield move(each, place)
