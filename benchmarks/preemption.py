"""Who has to go: random small clusters against an exhaustive optimum; the time to a proved "no".

A case is a crowded cluster of up to 12 nodes with pods of two or three tiers, some of which may
not move or not go, gangs, node selectors and tight budgets. The optimum comes from
`benchmarks.tables`, which shares nothing with the engines. Beside both stands what kube-scheduler's
default preemption does, emulated: pod by pod the node whose victims have the lowest priority, then
the fewest; nobody is moved, and gangs are not known.

The time to a "no" is that of the whole `plan()` call at 500 nodes, for a unit that cannot fit.

    python -m benchmarks.preemption --cases 10000 --seeds 1 --json
"""

import argparse
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

import numpy as np

from bayplan.cluster.constraints import Constraints
from bayplan.cluster.keys import GangKey, NodeName, Owner, PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import EVICTION_COST, Plan, Verdict
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.rules import filters
from bayplan.validate import validate
from benchmarks import tables
from benchmarks.fleet import GPU

#: GPUs and CPUs of a pod; the last wants more CPU than its share.
SHAPES: Final = ((1, 4), (2, 8), (4, 16), (8, 32), (3, 10), (1, 20))

#: Millicores.
CPU: Final = 1000

#: Largest table of one case; what would need a larger one is drawn again.
MAX_ENTRIES: Final = 60_000

#: Values of a plan in the order in which they count: by tier, what is kept and what is placed.
Values = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A small cluster and what a plan may do to it."""

    snapshot: Snapshot
    policy: Policy


def cases(*, count: int, seed: int, budget: float) -> Iterator[Case]:
    """Yield random cases, in each of which somebody waits."""
    random = Random(seed)  # noqa: S311 - an example, not a secret
    while count:
        case = _Maker(random=random).case(budget)
        if tables.entries([kind.count for kind in _Counted.of(case.snapshot).kinds]) <= MAX_ENTRIES:
            count -= 1
            yield case


@dataclass(slots=True, kw_only=True)
class _Maker:
    """Draws one case."""

    random: Random
    tiers: tuple[int, ...] = field(init=False)
    shapes: list[tuple[int, int]] = field(init=False)
    pods: list[Pod] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tiers = self.random.choice([(0, 10), (0, 10, 20)])
        self.shapes = self.random.sample(SHAPES, k=3)

    def case(self, budget: float) -> Case:
        nodes = [self._node(i) for i in range(self.random.randint(1, 12))]
        for node in nodes:
            self._fill(node)
        for i in range(self.random.randint(1, 4)):
            self._wait(i)
        policy = Policy(
            time_limit_s=budget,
            max_moves=self.random.choice([100, 100, 100, 2, 0]),
            max_evictions=self.random.choice([100, 100, 100, 1]),
        )
        return Case(snapshot=Snapshot.of(nodes, self.pods), policy=policy)

    def _node(self, index: int) -> Node:
        gpus = self.random.choice([4, 8, 8])
        return Node(
            name=NodeName(f"node-{index:02}"),
            allocatable=Resources.of({GPU: gpus, "cpu": 5 * gpus * CPU, "pods": 20}),
            labels=(("zone", self.random.choice("ab")),),
        )

    def _fill(self, node: Node) -> None:
        """Let pods run on the node; most nodes are left with a rest that nobody fits into."""
        room = node.allocatable
        for _ in range(self.random.randint(1, 5)):
            gang = self.random.choice([None] * 12 + ["runs"])
            drawn = self._pod(
                tier=self.random.choice(self.tiers[:-1]),
                gang=gang,
                disruption=self.random.choice([Disruption.MOVABLE] * 6 + [*Disruption]),
            )
            if drawn.requests.fits(room):
                room -= drawn.requests
                self.pods.append(replace(drawn, node=node.name, waiting=False))

    def _wait(self, index: int) -> None:
        """Let a pod, or a gang of two or three, wait."""
        tier = self.random.choice(self.tiers[1:])
        size = self.random.choice([1, 1, 1, 2, 3])
        for _ in range(size):
            self.pods.append(self._pod(tier=tier, gang=f"waits-{index}" if size > 1 else None))
            if size > 1:
                self.pods[-1] = replace(self.pods[-1], gang_min_count=size)

    def _pod(
        self, *, tier: int, gang: str | None, disruption: Disruption = Disruption.MOVABLE
    ) -> Pod:
        gpus, cpu = self.random.choice(self.shapes)
        zone = self.random.choice([None] * 5 + ["a"])
        name = f"pod-{len(self.pods):02}"
        return Pod(
            key=PodKey(namespace="case", name=name),
            uid=name,
            requests=Resources.of({GPU: gpus, "cpu": cpu * CPU, "pods": 1}),
            priority=tier,
            constraints=Constraints(node_selector=(("zone", zone),) if zone else ()),
            waiting=True,
            disruption=disruption,
            gang=GangKey(namespace="case", name=gang) if gang else None,
            gang_min_count=2 if gang else 0,
            owner=Owner(kind="ReplicaSet", namespace="case", name="owner", uid="owner"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """A snapshot as kinds of pods, for the table.

    Attributes:
        kinds: The kinds.
        pods: The pods of each.
        here: [kind][node] how many run there now.
        room: [node] room that fixed pods leave, by resource.
    """

    kinds: tuple[tables.Kind, ...]
    pods: tuple[tuple[Pod, ...], ...]
    here: tuple[tuple[int, ...], ...]
    room: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, snapshot: Snapshot) -> "_Counted":
        """Count what is alike."""
        names = sorted({name for pod in snapshot.pods for name in pod.requests})
        free = {node.name: node.allocatable for node in snapshot.nodes}
        alike: dict[object, list[Pod]] = defaultdict(list)
        for pod in snapshot.pods:
            if pod.node is not None and pod.disruption is Disruption.FIXED:
                free[pod.node] -= pod.requests
            else:
                alike[_likeness(pod)].append(pod)
        here = tuple(
            tuple(sum(pod.node == node.name for pod in pods) for node in snapshot.nodes)
            for pods in alike.values()
        )
        return cls(
            kinds=tuple(
                tables.Kind(
                    requests=tuple(pods[0].requests[name] for name in names),
                    count=len(pods),
                    most=_most(pods, snapshot),
                )
                for pods in alike.values()
            ),
            pods=tuple(tuple(pods) for pods in alike.values()),
            here=here,
            room=tuple(tuple(free[node.name][name] for name in names) for node in snapshot.nodes),
        )


def _likeness(pod: Pod) -> object:
    return (pod.waiting, pod.requests, pod.constraints, pod.priority, pod.disruption, pod.gang)


def _most(pods: list[Pod], snapshot: Snapshot) -> tuple[int, ...]:
    """Return how many of a kind may sit on each node, room aside."""
    some = pods[0]
    comes = some.waiting or some.disruption is Disruption.MOVABLE
    return tuple(
        len(pods)
        if comes and filters.eligibility(some.constraints, node) is None
        else sum(pod.node == node.name for pod in pods)
        for node in snapshot.nodes
    )


def optimum(case: Case) -> Values:
    """Return the values of the best plan, found by looking at every one."""
    counted = _Counted.of(case.snapshot)
    kinds, here = counted.kinds, counted.here
    nodes = [
        [
            tables.Fill(
                counts=counts, gain=sum(min(n, now[j]) for n, now in zip(counts, here, strict=True))
            )
            for counts, _ in tables.fillings(kinds, j, room)
        ]
        for j, room in enumerate(counted.room)
    ]
    best = tables.table([kind.count for kind in kinds], nodes)
    rows, stays = tables.reachable(best)
    runs = np.array([not pods[0].waiting for pods in counted.pods], dtype=np.bool_)
    survive = rows[:, runs].sum(axis=1)
    moved = survive - stays
    evicted = sum(kind.count for kind, now in zip(kinds, runs, strict=True) if now) - survive
    fine = _gangs_whole(counted, case.snapshot, rows)
    fine &= (moved <= case.policy.max_moves) & (evicted <= case.policy.max_evictions)
    rows, moved, evicted = rows[fine], moved[fine], evicted[fine]
    stages = [
        rows[:, _of(counted, tier, waiting=waiting)].sum(axis=1)
        for tier, waiting in _stages(case.snapshot)
    ]
    winner = tables.lexicographic([*stages, -(EVICTION_COST * evicted + moved)])
    return (*(int(s[winner]) for s in stages), int(evicted[winner]), int(moved[winner]))


def _stages(snapshot: Snapshot) -> list[tuple[int, bool]]:
    """Return tier by tier from the highest: what runs, then what waits."""
    tiers = sorted({pod.priority for pod in snapshot.pods}, reverse=True)
    return [(tier, waiting) for tier in tiers for waiting in (False, True)]


def _of(counted: _Counted, tier: int, *, waiting: bool) -> list[int]:
    return [
        i
        for i, pods in enumerate(counted.pods)
        if pods[0].priority == tier and pods[0].waiting is waiting
    ]


def _gangs_whole(counted: _Counted, snapshot: Snapshot, rows: Any) -> Any:  # noqa: ANN401 - arrays
    """Return which rows split no gang: of what runs, and of what waits, all or nobody."""
    fine = np.ones(len(rows), dtype=np.bool_)
    gangs: dict[GangKey, list[int]] = defaultdict(list)
    for i, pods in enumerate(counted.pods):
        if pods[0].gang is not None:
            gangs[pods[0].gang].append(i)
    fixed = {p.gang for p in snapshot.pods if p.gang and p.disruption is Disruption.FIXED}
    for key, members in gangs.items():
        if not counted.pods[members[0]][0].waiting and _size(snapshot, key) < 2:
            continue
        full = np.all([rows[:, i] == counted.kinds[i].count for i in members], axis=0)
        none = np.all([rows[:, i] == 0 for i in members], axis=0)
        fine &= full | (none & (key not in fixed or counted.pods[members[0]][0].waiting))
    return fine


def _size(snapshot: Snapshot, key: GangKey) -> int:
    return max(pod.gang_min_count for pod in snapshot.pods if pod.gang == key)


def reached(snapshot: Snapshot, made: Plan) -> Values:
    """Return the values of a plan, counted from its actions."""
    bound, gone = {each.uid for each in made.binds}, {each.uid for each in made.evictions}
    values = [
        sum(
            pod.uid in bound if waiting else pod.uid not in gone
            for pod in snapshot.pods
            if pod.priority == tier
            and pod.waiting is waiting
            and (waiting or pod.disruption is not Disruption.FIXED)
        )
        for tier, waiting in _stages(snapshot)
    ]
    return (*values, len(made.evictions), len(made.moves))


def by_default(case: Case) -> Values:
    """Return the values of what kube-scheduler with default preemption would do."""
    snapshot = case.snapshot
    free = snapshot.free()
    on: dict[NodeName, list[Pod]] = defaultdict(list)
    for pod in snapshot.placed():
        on[pod.node or NodeName("")].append(pod)
    placed: Counter[int] = Counter()
    gone: Counter[int] = Counter()
    for pod in sorted(snapshot.waiting(), key=lambda each: (-each.priority, each.key)):
        nodes = [n for n in snapshot.nodes if filters.eligibility(pod.constraints, n) is None]
        found = _with_room(pod, nodes, free) or _by_preempting(pod, nodes, free, on)
        if found is None:
            continue
        name, victims = found
        for victim in victims:
            on[name].remove(victim)
            free[name] += victim.requests
            gone[victim.priority] += 1
        free[name] -= pod.requests
        on[name].append(replace(pod, disruption=Disruption.FIXED))
        placed[pod.priority] += 1
    runs = Counter(
        pod.priority for pod in snapshot.placed() if pod.disruption is not Disruption.FIXED
    )
    values = [
        placed[tier] if waiting else runs[tier] - gone[tier] for tier, waiting in _stages(snapshot)
    ]
    return (*values, gone.total(), 0)


_Found = tuple[NodeName, list[Pod]] | None


def _with_room(pod: Pod, nodes: list[Node], free: dict[NodeName, Resources]) -> _Found:
    """Return the least allocated node with room."""
    fits = [node for node in nodes if pod.requests.fits(free[node.name])]
    if not fits:
        return None
    best = max(fits, key=lambda n: (free[n.name][GPU] / max(1, n.allocatable[GPU]), n.name))
    return best.name, []


def _by_preempting(
    pod: Pod, nodes: list[Node], free: dict[NodeName, Resources], on: dict[NodeName, list[Pod]]
) -> _Found:
    """Return the node with the least harmful victims: lowest highest priority, sum, then count."""
    found: list[tuple[tuple[float, float, int, str], NodeName, list[Pod]]] = []
    for node in nodes:
        victims = _victims(pod, free[node.name], on[node.name])
        if victims:
            ranks = [victim.priority for victim in victims]
            rank = (max(ranks), sum(ranks), len(victims), node.name)
            found.append((rank, node.name, victims))
    return min(found, key=lambda each: each[0])[1:] if found else None


def _victims(pod: Pod, free: Resources, here: list[Pod]) -> list[Pod]:
    """Return who goes: all lower ones, less those that fit back in, the highest first."""
    lower = [p for p in here if p.priority < pod.priority and p.disruption is not Disruption.FIXED]
    for each in lower:
        free += each.requests
    if not pod.requests.fits(free):
        return []
    free -= pod.requests
    victims = []
    for each in sorted(lower, key=lambda p: (-p.priority, p.key)):
        if each.requests.fits(free):
            free -= each.requests
        else:
            victims.append(each)
    return victims


def compared(*, count: int, seed: int, budget: float) -> dict[str, Any]:
    """Return how plans compare with the optimum, and the default with it."""
    totals: Counter[str] = Counter()
    worse: list[int] = []
    for number, case in enumerate(cases(count=count, seed=seed, budget=budget)):
        result = plan(case.snapshot, case.policy, clock=time.perf_counter)
        ours, best = reached(case.snapshot, result.plan), optimum(case)
        theirs = by_default(case)
        totals["cases"] += 1
        totals["victims"] += ours[-2]
        totals["optimum"] += best[-2]
        totals["moves"] += ours[-1]
        totals["optimum_moves"] += best[-1]
        totals["certified"] += all(stage.proved for stage in result.plan.certificate.stages)
        totals["violations"] += len(validate(case.snapshot, case.policy, result.plan))
        totals["refused"] += len(result.refused)
        totals["fewer_placed"] += ours[:-2] != best[:-2]
        totals["default_as_many_placed"] += theirs[:-2] == best[:-2]
        totals["default_victims"] += theirs[-2]
        worse += [number] if ours != best else []
    return {
        **totals,
        "worse": len(worse),
        "worst_cases": worse[:20],
        "ratio": round(totals["victims"] / max(1, totals["optimum"]), 4),
        "default_ratio": round(totals["default_victims"] / max(1, totals["optimum"]), 4),
    }


def refusals(*, nodes: int, budget: float) -> dict[str, dict[str, Any]]:
    """Return how long it takes to prove that a unit fits nowhere, by what stands in its way."""
    found = {}
    for name, snapshot in (
        ("too few GPUs", _short(nodes)),
        ("in pieces that no move joins", _in_pieces(nodes)),
        ("outranked", _outranked(nodes)),
    ):
        started_at = time.perf_counter()
        result = plan(snapshot, Policy(time_limit_s=budget), clock=time.perf_counter)
        found[name] = {
            "seconds": round(time.perf_counter() - started_at, 3),
            "verdict": str(result.plan.certificate.verdict),
            "engine": result.engine,
            "why": result.plan.holds[0].rejection.message,
            "would_help": result.plan.holds[0].remedy,
        }
    return found


def _short(nodes: int) -> Snapshot:
    """Return a cluster in which a unit asks for a few GPUs more than are free."""
    free = sum(8 - 2 * (1 + i % 3) for i in range(nodes))
    return _cluster(nodes, lambda i: [(1 + i % 3, 10)] * 2, gang=[(4, 20)] * (free // 4 + 1))


def _in_pieces(nodes: int) -> Snapshot:
    """Return a cluster with two free GPUs on each node, which no move brings together."""
    return _cluster(nodes, lambda _: [(3, 10)] * 2, gang=[(4, 20)] * 2)


def _outranked(nodes: int) -> Snapshot:
    """Return a cluster full of a higher tier, but for room for half a unit."""
    return _cluster(nodes, lambda i: [] if i < 3 else [(4, 20)] * 2, gang=[(8, 40)] * 4, tier=1000)


def _cluster(
    nodes: int,
    runs: Callable[[int], list[tuple[int, int]]],
    *,
    gang: list[tuple[int, int]],
    tier: int = 0,
) -> Snapshot:
    hosts = [
        Node(
            name=NodeName(f"node-{i:04}"),
            allocatable=Resources.of({GPU: 8, "cpu": 64 * CPU, "pods": 110}),
        )
        for i in range(nodes)
    ]
    running = [
        replace(_plain(f"runs-{i}-{j}", shape, tier), node=host.name, waiting=False)
        for i, host in enumerate(hosts)
        for j, shape in enumerate(runs(i))
    ]
    unit = GangKey(namespace="case", name="unit")
    waiting = [
        replace(_plain(f"waits-{j:04}", shape, 0), gang=unit, gang_min_count=len(gang))
        for j, shape in enumerate(gang)
    ]
    return Snapshot.of(hosts, [*running, *waiting])


def _plain(name: str, shape: tuple[int, int], tier: int) -> Pod:
    return Pod(
        key=PodKey(namespace="case", name=name),
        uid=name,
        requests=Resources.of({GPU: shape[0], "cpu": shape[1] * CPU, "pods": 1}),
        priority=tier,
        waiting=True,
        disruption=Disruption.MOVABLE,
        owner=Owner(kind="ReplicaSet", namespace="case", name="owner", uid="owner"),
    )


def main() -> None:
    """Print what each seed gives, then one JSON object."""
    args = _arguments()
    runs = [compared(count=args.cases, seed=seed, budget=args.budget) for seed in range(args.seeds)]
    for run in runs if not args.json else []:
        print(json.dumps(run))
    refused = refusals(nodes=args.nodes, budget=args.budget)
    proved = all(each["verdict"] == Verdict.INFEASIBLE for each in refused.values())
    summed = {
        key: sum(run[key] for run in runs)
        for key in runs[0]
        if key not in {"ratio", "default_ratio", "worst_cases"}
    }
    print(
        json.dumps(
            {
                "benchmark": "preemption",
                **summed,
                "ratio": round(summed["victims"] / max(1, summed["optimum"]), 4),
                "default_ratio": round(summed["default_victims"] / max(1, summed["optimum"]), 4),
                "no_nodes": args.nodes,
                "no_seconds": max(each["seconds"] for each in refused.values()),
                "no_verdict": str(Verdict.INFEASIBLE) if proved else "not proved",
                "no": refused,
                "worst_cases": [run["worst_cases"] for run in runs],
            }
        )
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200, help="cases of one seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds")
    parser.add_argument("--nodes", type=int, default=500, help="nodes of the proved no")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds of one pass")
    parser.add_argument("--json", action="store_true", help="print the summary alone")
    return parser.parse_args()


if __name__ == "__main__":
    main()
