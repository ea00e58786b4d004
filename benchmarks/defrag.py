"""Whole GPU slots won back by moves alone: how many, with how few moves, how fast.

A fragmented fleet (that of `benchmarks.fleet`, with nobody waiting) is planned in the order
`Defragment` with a budget of moves. A certified plan has the most 8-GPU slots that the budget
allows, and the fewest moves for them; small clusters are compared with every way to move
(`benchmarks.tables`). Beside it stands a greedy defragmenter, as deschedulers and consolidating
schedulers do it: the emptiest node first, its pods to the fullest nodes that take them, all of them
or none.

    python -m benchmarks.defrag --nodes 1000 --json
    python -m benchmarks.defrag --nodes 5000 --variant mixed --budget 20 --json
"""

import argparse
import json
import statistics
import time
from collections import Counter, defaultdict
from random import Random
from typing import Any, Final, get_args

import numpy as np

from bayplan.cluster.constraints import Constraints
from bayplan.cluster.keys import NodeName, Owner, PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Stage
from bayplan.planner import plan
from bayplan.policy import Policy, defragmenting
from bayplan.rules import filters
from bayplan.validate import validate
from benchmarks import tables
from benchmarks.fleet import GPU, Variant, fleet

#: GPUs of a slot.
SLOT: Final = 8

#: Largest table of a small case; what would need a larger one is drawn again.
MAX_ENTRIES: Final = 60_000

#: Whole slots that are free, and pods that moved for them.
Outcome = tuple[int, int]


def slots(snapshot: Snapshot) -> int:
    """Return the free slots of a cluster as it is."""
    return sum(max(0, room[GPU]) // SLOT for room in snapshot.free().values())


def measured(snapshot: Snapshot, *, moves: int, budget: float) -> dict[str, Any]:
    """Return what one pass wins back, and how long it takes."""
    policy = defragmenting(Policy(time_limit_s=budget), max_moves=moves)
    started_at = time.perf_counter()
    result = plan(snapshot, policy, clock=time.perf_counter)
    seconds = time.perf_counter() - started_at
    stages = {stage.name: stage for stage in result.plan.certificate.stages}
    name = f"free {SLOT}-GPU slots"
    free = stages.get(name, Stage(name=name, value=0, bound=0))
    return {
        "engine": result.engine,
        "seconds": round(seconds, 3),
        "solve_seconds": round(dict(result.seconds)["solve"], 3),
        "certified": free.proved and stages["disruption"].proved,
        "recovered": free.value - slots(snapshot),
        "recovered_bound": free.bound - slots(snapshot),
        "moves": len(result.plan.moves),
        "moves_bound": stages["disruption"].bound,
        "valid": not (result.refused or validate(snapshot, policy, result.plan)),
    }


def greedily(snapshot: Snapshot, *, moves: int) -> Outcome:
    """Return what draining the emptiest nodes first wins back, and with how many moves."""
    free, nodes = snapshot.free(), {node.name: node for node in snapshot.nodes}
    here: dict[NodeName, list[Pod]] = defaultdict(list)
    for pod in snapshot.placed():
        here[pod.node or NodeName("")].append(pod)
    before, moved = slots(snapshot), 0
    by_use = sorted(here, key=lambda name: (-free[name][GPU], name))
    for name in by_use:
        pods = here[name]
        if moved + len(pods) > moves or any(p.disruption is not Disruption.MOVABLE for p in pods):
            continue
        targets = _targets(pods, name, nodes, free)
        for pod, target in targets:
            free[target] -= pod.requests
            free[name] += pod.requests
            here[target].append(pod)
        if targets:
            here[name] = []
            moved += len(targets)
    return sum(max(0, room[GPU]) // SLOT for room in free.values()) - before, moved


def _targets(
    pods: list[Pod], source: NodeName, nodes: dict[NodeName, Node], free: dict[NodeName, Resources]
) -> list[tuple[Pod, NodeName]]:
    """Return a node in use for each pod, the fullest that takes it; empty if one has none."""
    left: dict[NodeName, Resources] = {}
    found = []
    for pod in sorted(pods, key=lambda each: (-each.requests[GPU], each.key)):
        fits = [
            name
            for name, room in free.items()
            if name != source
            and left.get(name, room)[GPU] < SLOT
            and pod.requests.fits(left.get(name, room))
            and filters.eligibility(pod.constraints, nodes[name]) is None
        ]
        if not fits:
            return []
        best = min(fits, key=lambda name: (left.get(name, free[name])[GPU], name))
        left[best] = left.get(best, free[best]) - pod.requests
        found.append((pod, best))
    return found


def small(random: Random) -> Snapshot:
    """Return a small cluster in pieces: up to 8 nodes, some pods that must stay."""
    nodes: list[Node] = []
    pods: list[Pod] = []
    for i in range(random.randint(2, 8)):
        node = Node(
            name=NodeName(f"node-{i}"),
            allocatable=Resources.of({GPU: 8, "cpu": 40_000, "pods": 20}),
            labels=(("zone", random.choice("ab")),),
        )
        room = node.allocatable
        for _ in range(random.randint(0, 3)):
            gpus, cpu = random.choice([(1, 4), (2, 8), (4, 16), (1, 20), (3, 12)])
            asks = Resources.of({GPU: gpus, "cpu": cpu * 1000, "pods": 1})
            if asks.fits(room):
                room -= asks
                pods.append(_pod(random, f"pod-{len(pods):02}", node, asks))
        nodes.append(node)
    return Snapshot.of(nodes, pods)


def _pod(random: Random, name: str, node: Node, asks: Resources) -> Pod:
    zone = dict(node.labels)["zone"] if random.random() < 0.15 else ""
    return Pod(
        key=PodKey(namespace="case", name=name),
        uid=name,
        requests=asks,
        node=node.name,
        disruption=random.choice([Disruption.MOVABLE] * 7 + [Disruption.FIXED]),
        constraints=Constraints(node_selector=(("zone", zone),) if zone else ()),
        owner=Owner(kind="ReplicaSet", namespace="case", name="owner", uid="owner"),
    )


def optimum(snapshot: Snapshot, *, moves: int) -> Outcome:
    """Return the most slots that the budget allows, and the fewest moves for them: every way."""
    kinds, here, room = _counted(snapshot)
    runs = sum(kind.count for kind in kinds)
    nodes = []
    for j, free in enumerate(room):
        fills = []
        for counts, left in tables.fillings(kinds, j, free):
            stays = sum(min(n, now[j]) for n, now in zip(counts, here, strict=True))
            fills.append(tables.Fill(counts=(*counts, stays), gain=left[_gpu_column()] // SLOT))
        nodes.append(fills)
    best = tables.table([*(kind.count for kind in kinds), runs], nodes)
    by_stays = best[tuple(kind.count for kind in kinds)]
    allowed = by_stays[max(0, runs - moves) :]
    most = int(allowed.max())
    stays = max(0, runs - moves) + int(np.flatnonzero(allowed == most)[-1])
    return most - slots(snapshot), runs - stays


def _resources() -> tuple[str, ...]:
    return ("cpu", GPU, "pods")


def _gpu_column() -> int:
    return _resources().index(GPU)


def _counted(
    snapshot: Snapshot,
) -> tuple[list[tables.Kind], list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Return the kinds of pods that may move, where they are, and the room without them."""
    free = {node.name: node.allocatable for node in snapshot.nodes}
    alike: dict[object, list[Pod]] = defaultdict(list)
    for pod in snapshot.pods:
        if pod.disruption is Disruption.FIXED and pod.node is not None:
            free[pod.node] -= pod.requests
        else:
            alike[pod.requests, pod.constraints].append(pod)
    kinds = [
        tables.Kind(
            requests=tuple(pods[0].requests[name] for name in _resources()),
            count=len(pods),
            most=tuple(
                0 if filters.eligibility(pods[0].constraints, node) else len(pods)
                for node in snapshot.nodes
            ),
        )
        for pods in alike.values()
    ]
    here = [
        tuple(sum(pod.node == node.name for pod in pods) for node in snapshot.nodes)
        for pods in alike.values()
    ]
    room = [tuple(free[node.name][name] for name in _resources()) for node in snapshot.nodes]
    return kinds, here, room


def compared(*, cases: int, budget: float) -> dict[str, int]:
    """Return how plans of small clusters compare with the optimum."""
    random = Random(0)  # noqa: S311 - examples, not secrets
    totals: Counter[str] = Counter()
    while totals["cases"] < cases:
        snapshot, moves = small(random), random.choice([1, 2, 3, 100])
        counts = [kind.count for kind in _counted(snapshot)[0]]
        if tables.entries([*counts, sum(counts)]) > MAX_ENTRIES:
            continue
        best = optimum(snapshot, moves=moves)
        ours = measured(snapshot, moves=moves, budget=budget)
        drained = greedily(snapshot, moves=moves)
        totals["cases"] += 1
        totals["worse"] += (ours["recovered"], ours["moves"]) != best
        totals["certified"] += ours["certified"]
        totals["slots"] += ours["recovered"]
        totals["slots_optimum"] += best[0]
        totals["moves"] += ours["moves"]
        totals["moves_optimum"] += best[1]
        totals["greedy_slots"] += drained[0]
        totals["greedy_moves"] += drained[1]
    return dict(totals)


def main() -> None:
    """Print a line per seed, then one JSON object."""
    args = _arguments()
    moves = args.nodes // 20 if args.moves is None else args.moves
    runs = []
    for seed in range(args.seeds):
        snapshot = fleet(nodes=args.nodes, demand=0.0, seed=seed, variant=args.variant)
        ours = measured(snapshot, moves=moves, budget=args.budget)
        recovered, moved = greedily(snapshot, moves=moves)
        theirs = {"recovered": recovered, "moves": moved, "per_slot": _per_slot(recovered, moved)}
        per_slot = _per_slot(ours["recovered"], ours["moves"])
        bound = _per_slot(ours["recovered_bound"], ours["moves_bound"])
        runs.append(
            {"seed": seed, **ours, "per_slot": per_slot, "optimum": bound, "greedy": theirs}
        )
        if not args.json:
            print(json.dumps(runs[-1]))
    print(
        json.dumps(
            {
                "benchmark": "defrag",
                "nodes": args.nodes,
                "variant": args.variant,
                "max_moves": moves,
                "certified": statistics.mean(run["certified"] for run in runs),
                "seconds": statistics.median(run["seconds"] for run in runs),
                "moves_per_slot": statistics.mean(run["per_slot"] for run in runs),
                "optimum": statistics.mean(run["optimum"] for run in runs),
                "greedy_moves_per_slot": statistics.mean(run["greedy"]["per_slot"] for run in runs),
                "greedy_recovered": sum(run["greedy"]["recovered"] for run in runs),
                "recovered": sum(run["recovered"] for run in runs),
                "small": compared(cases=args.cases, budget=args.budget),
                "runs": runs,
            }
        )
    )


def _per_slot(recovered: int, moves: int) -> float:
    return round(moves / max(1, recovered), 4)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100, help="size of the fleet")
    parser.add_argument("--variant", choices=get_args(Variant), default="plain")
    parser.add_argument("--moves", type=int, help="budget of moves (default: nodes / 20)")
    parser.add_argument("--cases", type=int, default=50, help="small clusters")
    parser.add_argument("--seeds", type=int, default=1, help="how many fleets")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds of one pass")
    parser.add_argument("--json", action="store_true", help="print the summary alone")
    return parser.parse_args()


if __name__ == "__main__":
    main()
