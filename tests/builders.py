"""Small valid nodes, pods and snapshots for tests: say only what a test is about."""

from bayplan.cluster import units
from bayplan.cluster.budgets import Budget, Health
from bayplan.cluster.constraints import (
    Constraints,
    GangTopology,
    Peers,
    PodSelector,
    PodTerm,
    Requirement,
    Spread,
    Taint,
)
from bayplan.cluster.keys import BudgetKey, GangKey, NodeName, Owner, PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot
from bayplan.rules.restraints import restrained

GPU = "nvidia.com/gpu"


def node(  # noqa: PLR0913 - each argument is one thing a test may be about
    name: str,
    *,
    gpus: int = 8,
    cpu_milli: int = 64_000,
    memory_mib: int = 524_288,
    pods: int = 110,
    labels: dict[str, str] | None = None,
    taints: tuple[Taint, ...] = (),
    schedulable: bool = True,
    ready: bool = True,
) -> Node:
    """Return a ready 8-GPU node."""
    room = {GPU: gpus, "cpu": cpu_milli, "memory": memory_mib, "pods": pods}
    return Node(
        name=NodeName(name),
        allocatable=Resources.of(room),
        labels=tuple(sorted((labels or {}).items())),
        taints=taints,
        schedulable=schedulable,
        ready=ready,
    )


def pod(  # noqa: PLR0913 - each argument is one thing a test may be about
    name: str,
    *,
    gpus: int = 1,
    cpu_milli: int = 0,
    memory_mib: int = 0,
    priority: int = 0,
    on: str | None = None,
    gang: str | None = None,
    min_count: int = 0,
    owner: str | None = None,
    min_units: int = 0,
    disruption: Disruption = Disruption.MOVABLE,
    constraints: Constraints | None = None,
    preempts: bool = True,
    terminating: bool = False,
    move_cost: int = 1,
    namespace: str = "default",
    labels: dict[str, str] | None = None,
    topology: GangTopology | None = None,
    ports: tuple[int, ...] = (),
    share: int = 0,
    device: int | None = None,
    health: Health = Health.READY,
) -> Pod:
    """Return a pod that waits for a plan, or runs on the node `on` and may be moved.

    With a `share` of so many thousandths it has no whole GPU.
    """
    asks = {GPU: 0 if share else gpus, "cpu": cpu_milli, "memory": memory_mib, "pods": 1}
    asks |= {units.host_port(port, "TCP"): 1 for port in ports}
    requests = Resources.of(asks)
    if share:
        requests = (requests + Resources.of({units.share(share): 1})).on_device(device)
    return Pod(
        key=PodKey(namespace=namespace, name=name),
        uid=f"uid-{name}",
        requests=requests,
        priority=priority,
        constraints=constraints or Constraints(),
        node=NodeName(on) if on else None,
        waiting=on is None and not terminating,
        disruption=disruption,
        preempts=preempts,
        terminating=terminating,
        gang=GangKey(namespace=namespace, name=gang) if gang else None,
        gang_min_count=min_count,
        gang_topology=topology,
        min_units=min_units,
        labels=tuple(sorted((labels or {}).items())),
        move_cost=move_cost,
        health=health,
        owner=Owner(kind="ReplicaSet", namespace=namespace, name=owner or name, uid=owner or name),
    )


def select(**labels: str) -> PodSelector:
    """Return the selector of pods of the default namespace with these labels."""
    asked = (Requirement(key=k, operator="In", values=(v,)) for k, v in sorted(labels.items()))
    return PodSelector(namespaces=("default",), labels=tuple(asked))


def apart(key: str, **labels: str) -> Constraints:
    """Return required anti-affinity against pods with these labels in a domain of `key`."""
    return Constraints(peers=Peers(repels=(PodTerm(key=key, pods=select(**labels)),)))


def beside(key: str, **labels: str) -> Constraints:
    """Return required affinity to pods with these labels in a domain of `key`."""
    return Constraints(peers=Peers(attracts=(PodTerm(key=key, pods=select(**labels)),)))


def spread(key: str, max_skew: int = 1, **labels: str) -> Constraints:
    """Return a topology spread over `key` of the pods with these labels."""
    rule = Spread(key=key, pods=select(**labels), max_skew=max_skew)
    return Constraints(peers=Peers(spreads=(rule,)))


def budget(  # noqa: PLR0913 - each argument is one thing a test may be about
    name: str,
    *,
    allowed: int,
    namespace: str = "default",
    healthy: int = 0,
    desired: int = 0,
    always: bool = False,
    **labels: str,
) -> Budget:
    """Return a PodDisruptionBudget that covers the pods with these labels."""
    return Budget(
        key=BudgetKey(namespace=namespace, name=name),
        allowed=allowed,
        healthy=healthy,
        desired=desired,
        always=always,
        labels=tuple(
            Requirement(key=key, operator="In", values=(value,))
            for key, value in sorted(labels.items())
        ),
    )


def snapshot(*things: Node | Pod | Budget) -> Snapshot:
    """Return the snapshot of these nodes, pods and budgets, as it is long after any move."""
    return restrained(
        Snapshot.of(
            [thing for thing in things if isinstance(thing, Node)],
            [thing for thing in things if isinstance(thing, Pod)],
            [thing for thing in things if isinstance(thing, Budget)],
        ),
        now=0,
        cooldown_s=0,
    )
