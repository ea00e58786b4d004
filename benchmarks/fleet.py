"""Plan large fleets of 8-GPU nodes that are made of few kinds of pods, and compare with CP-SAT.

A fleet is filled with pods of eight request vectors whose CPU and memory do not divide a node
evenly, then thinned at random, so that its free GPUs lie in pieces. What waits asks for `demand`
times what is free. The variant `mixed` has three node types, constrained and immovable pods, and
units of two kinds that wait; in the variant `units` all that runs and all that waits is a unit,
placed and evicted whole. Each run starts from a ready snapshot and ends with a validated plan of
named pods and nodes; the baseline is the direct model of every class on every node.

    python -m benchmarks.fleet --nodes 5000 --demand 1.1 --seeds 2 --json
    python -m benchmarks.fleet --nodes 1000 --variant mixed --budget 20 --json
    python -m benchmarks.fleet --nodes 5000 --variant units --demand 2 --json
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any, Final, Literal, get_args
from unittest import mock

from bayplan.cluster.constraints import Constraints
from bayplan.cluster.keys import GangKey, NodeName, Owner, PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Result
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.solver import engine
from bayplan.validate import validate

Variant = Literal["plain", "mixed", "units"]

GPU: Final = "nvidia.com/gpu"
PRODUCT: Final = "nvidia.com/gpu.product"

#: GPUs, millicores and GiB of a pod; larger pods are rarer.
VECTORS: Final = (
    (1, 11_000, 75),
    (1, 17_000, 130),
    (2, 21_000, 210),
    (2, 33_000, 150),
    (4, 45_000, 390),
    (4, 60_000, 510),
    (8, 95_000, 800),
    (8, 120_000, 950),
)
WEIGHTS: Final = (20, 16, 14, 12, 9, 7, 3, 2)

#: Millicores and GiB of a node, by type.
NODE_TYPES: Final = (("H100", 127_000, 1000), ("A100", 95_000, 970), ("L40S", 126_000, 740))

#: Priorities, and how common each is.
TIERS: Final = (1000, 100, 0)
TIER_WEIGHTS: Final = (2, 3, 5)

#: Share of the pods of a full fleet that are still there at the start.
KEPT: Final = 0.7

#: Indices of the vectors of one unit, by kind.
UNITS: Final = ((4, 2, 2), (6, 4))

#: Largest direct model that is tried as a baseline, in (class, node) pairs.
BASELINE_VARIABLES: Final = 30_000


def fleet(*, nodes: int, demand: float, seed: int, variant: Variant = "plain") -> Snapshot:
    """Return a fragmented fleet and what waits for it."""
    maker = _Maker(seed=seed, variant=variant)
    hosts = [maker.node(i) for i in range(nodes)]
    if variant == "units":
        running = list(maker.running_units(hosts))
    else:
        running = [pod for host in hosts for pod in maker.running(host)]
    free = 8 * nodes - sum(pod.requests[GPU] for pod in running)
    return Snapshot.of(hosts, [*running, *maker.waiting(int(demand * free))])


class _Maker:
    """Draws nodes and pods."""

    def __init__(self, *, seed: int, variant: Variant) -> None:
        self._random = Random(seed)  # noqa: S311 - an example, not a secret
        self._mixed = variant == "mixed"
        #: Share of what waits that comes in units.
        self._united = {"plain": 0.0, "mixed": 0.4, "units": 1.0}[variant]
        self._pods = 0

    def node(self, index: int) -> Node:
        product, cpu, memory = NODE_TYPES[self._random.randrange(3) if self._mixed else 0]
        room = {GPU: 8, "cpu": cpu, "memory": memory * 1024, "pods": 110}
        return Node(
            name=NodeName(f"node-{index:06}"),
            allocatable=Resources.of(room),
            labels=((PRODUCT, product),),
        )

    def running(self, host: Node) -> Iterator[Pod]:
        """Yield pods that fill the node, less the ones that left."""
        room, misses = host.allocatable, 0
        product = dict(host.labels)[PRODUCT]
        while misses < 4:
            requests = self._requests()
            if not requests.fits(room):
                misses += 1
                continue
            room -= requests
            if self._random.random() < KEPT:
                fixed = self._mixed and self._random.random() < 0.1
                yield self._pod(
                    requests,
                    node=host.name,
                    disruption=Disruption.FIXED if fixed else Disruption.MOVABLE,
                    constraints=self._constraints(product),
                )

    def waiting(self, gpus: int) -> Iterator[Pod]:
        """Yield pods that ask for `gpus` GPUs in sum."""
        units = self._united * gpus
        asked = 0
        while asked < gpus:
            pods = [self._single()] if asked >= units else self._unit()
            asked += sum(pod.requests[GPU] for pod in pods)
            yield from pods

    def _single(self) -> Pod:
        product = self._random.choice(NODE_TYPES)[0]
        return self._pod(self._requests(), constraints=self._constraints(product))

    def running_units(self, hosts: list[Node]) -> Iterator[Pod]:
        """Yield the pods of units that fill the nodes, less the units that left."""
        room = {host.name: host.allocatable for host in hosts}
        misses = 0
        while misses < len(hosts):
            unit = self._unit()
            homes = self._homes(unit, room, hosts)
            misses += not homes
            if self._random.random() < KEPT:
                yield from (
                    replace(pod, node=home, waiting=False)
                    for pod, home in zip(unit, homes, strict=False)
                )

    def _homes(
        self, unit: list[Pod], room: dict[NodeName, Resources], hosts: list[Node]
    ) -> list[NodeName]:
        """Return nodes for all pods of a unit, whose room is taken then; none if one finds none."""
        homes: list[NodeName] = []
        for pod in unit:
            some = [host.name for host in self._random.sample(hosts, min(len(hosts), 8))]
            fits = [name for name in some if pod.requests.fits(room[name])]
            if not fits:
                for each, home in zip(unit, homes, strict=False):
                    room[home] += each.requests
                return []
            homes.append(min(fits, key=lambda name: (room[name][GPU], name)))
            room[homes[-1]] -= pod.requests
        return homes

    def _unit(self) -> list[Pod]:
        vectors = UNITS[self._random.randrange(len(UNITS))]
        gang = GangKey(namespace="fleet", name=f"unit-{self._pods}")
        tier = self._tier()
        return [
            self._pod(_requests(VECTORS[v]), gang=gang, min_count=len(vectors), priority=tier)
            for v in vectors
        ]

    def _requests(self) -> Resources:
        return _requests(self._random.choices(VECTORS, WEIGHTS)[0])

    def _tier(self) -> int:
        return self._random.choices(TIERS, TIER_WEIGHTS)[0]

    def _constraints(self, product: str) -> Constraints:
        if self._mixed and self._random.random() < 0.3:
            return Constraints(node_selector=((PRODUCT, product),))
        return Constraints()

    def _pod(  # noqa: PLR0913 - one argument per thing that differs
        self,
        requests: Resources,
        *,
        node: NodeName | None = None,
        disruption: Disruption = Disruption.MOVABLE,
        constraints: Constraints | None = None,
        gang: GangKey | None = None,
        min_count: int = 0,
        priority: int | None = None,
    ) -> Pod:
        self._pods += 1
        name = f"pod-{self._pods:07}"
        return Pod(
            key=PodKey(namespace="fleet", name=name),
            uid=name,
            requests=requests,
            priority=self._tier() if priority is None else priority,
            constraints=constraints or Constraints(),
            node=node,
            waiting=node is None,
            disruption=disruption,
            gang=gang,
            gang_min_count=min_count,
            owner=Owner(kind="ReplicaSet", namespace="fleet", name="owner", uid="owner"),
        )


def _requests(vector: tuple[int, int, int]) -> Resources:
    gpus, cpu, memory = vector
    return Resources.of({GPU: gpus, "cpu": cpu, "memory": memory * 1024, "pods": 1})


def measured(snapshot: Snapshot, *, budget: float) -> dict[str, Any]:
    """Return what one pass reaches, and how long each step takes; apart, making the snapshot."""
    policy = Policy(time_limit_s=budget, max_moves=10**9, max_evictions=10**9)
    made_at = time.perf_counter()
    # What an earlier pass has read from the snapshot is not to be had for nothing.
    snapshot = Snapshot.of(snapshot.nodes, snapshot.pods, snapshot.budgets)
    started_at = time.perf_counter()
    result = plan(snapshot, policy, clock=time.perf_counter)
    seconds = time.perf_counter() - started_at
    certificate = result.plan.certificate
    return {
        **_reached(result),
        "gap": round(certificate.gap, 6),
        "seconds": round(seconds, 3),
        "snapshot_seconds": round(started_at - made_at, 3),
        "steps": {name: round(value, 3) for name, value in result.seconds},
        "stages": {
            stage.name: [stage.value, stage.bound, round(stage.seconds, 3)]
            for stage in certificate.stages
        },
        "sizes": dict(result.sizes),
        "placed": len(result.plan.binds),
        "held": len(result.plan.holds),
        "moves": len(result.plan.moves),
        "evictions": len(result.plan.evictions),
        "valid": not (result.refused or validate(snapshot, policy, result.plan)),
    }


def _reached(result: Result) -> dict[str, Any]:
    """Return how far the certificate goes: to the least disruption, and through the free slots."""
    stages = result.plan.certificate.stages
    last = [stage.name for stage in stages].index("disruption")
    return {
        "engine": result.engine,
        "certified": all(stage.proved for stage in stages[: last + 1]),
        "certified_slots": all(stage.proved for stage in stages),
    }


def baseline(snapshot: Snapshot, *, budget: float, variables: int) -> dict[str, Any] | None:
    """Return what the direct model reaches; None where it is too large to try."""
    if variables > BASELINE_VARIABLES:
        return None
    with (
        mock.patch.object(engine, "MIN_VARIABLES", variables + 1),
        mock.patch.object(engine, "MAX_VARIABLES", variables),
    ):
        found = measured(snapshot, budget=budget)
    return {key: found[key] for key in ("engine", "certified", "certified_slots", "gap", "seconds")}


def main() -> None:
    """Print a line per seed, then one JSON object."""
    args = _arguments()
    runs = [_run(args, seed) for seed in range(args.seeds)]
    for run in runs if not args.json else []:
        print(json.dumps(run))
    against = [run["baseline"] for run in runs if run["baseline"]]
    print(
        json.dumps(
            {
                "benchmark": "fleet",
                "nodes": args.nodes,
                "variant": args.variant,
                "demand": args.demand,
                "budget": args.budget,
                "certified": statistics.mean(run["certified"] for run in runs),
                "certified_slots": statistics.mean(run["certified_slots"] for run in runs),
                "gap": max(run["gap"] for run in runs),
                "seconds": statistics.median(run["seconds"] for run in runs),
                "snapshot_seconds": statistics.median(run["snapshot_seconds"] for run in runs),
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "baseline": {
                    "certified": statistics.mean(each["certified"] for each in against),
                    "seconds": statistics.median(each["seconds"] for each in against),
                }
                if against
                else None,
                "runs": runs,
            }
        )
    )


def _run(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    snapshot = fleet(nodes=args.nodes, demand=args.demand, seed=seed, variant=args.variant)
    ours = measured(snapshot, budget=args.budget)
    variables = ours["sizes"]["variables"]
    theirs = baseline(snapshot, budget=args.budget, variables=variables)
    return {"seed": seed, "pods": len(snapshot.pods), **ours, "baseline": theirs}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100, help="size of the fleet")
    parser.add_argument("--variant", choices=get_args(Variant), default="plain")
    parser.add_argument("--demand", type=float, default=1.1, help="times the free GPUs")
    parser.add_argument("--seeds", type=int, default=1, help="how many fleets")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds of one pass")
    parser.add_argument("--json", action="store_true", help="print the summary alone")
    return parser.parse_args()


if __name__ == "__main__":
    main()
