"""Whatever drains and comes back: no more pods of a budget are out of service than it admits."""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from bayplan import steps
from bayplan.cluster.budgets import Budget, Health
from bayplan.cluster.keys import PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.inference.drains import DrainState
from bayplan.plan import Plan
from bayplan.policy import Policy
from bayplan.steps import DrainPod, EvictPod, ServePod, Step
from tests.builders import budget, node, pod
from tests.scenes.steps import bind, evict, plan

NODES: list[Node] = [node(f"n{i}") for i in range(3)]


@dataclass
class Cluster:
    """Pods under one budget, whose kubelets and controller are late.

    Attributes:
        pods: Those that are there, as their kubelets have told.
        desired: How many must be ready.
        out: Since when pods are out of service, by uid.
        unready: Since when their kubelets have said so, by uid.
        told: The budget as its controller wrote it last.
    """

    pods: dict[PodKey, Pod]
    desired: int
    told: Budget = field(init=False)
    out: dict[str, int] = field(default_factory=dict)
    unready: dict[str, int] = field(default_factory=dict)
    clock: int = 0

    def __post_init__(self) -> None:
        self.count()

    def count(self) -> None:
        """Have the controller look."""
        healthy = sum(pod.health is Health.READY for pod in self._covered())
        allowed = max(0, healthy - self.desired)
        self.told = budget("x", allowed=allowed, healthy=healthy, desired=self.desired, app="x")

    def tell(self) -> None:
        """Have the kubelets look."""
        for key, each in self.pods.items():
            if each.uid not in self.out:
                self.unready.pop(each.uid, None)
            else:
                self.unready.setdefault(each.uid, self.clock)
            health = Health.UNREADY if each.uid in self.unready else Health.READY
            self.pods[key] = replace(each, health=health)

    def serving(self) -> int:
        """Return how many pods of the budget take requests."""
        ready = (pod for pod in self._covered() if pod.health is Health.READY)
        return sum(pod.uid not in self.out for pod in ready)

    def _covered(self) -> list[Pod]:
        return [p for p in self.pods.values() if p.labels and not p.terminating]

    def drains(self) -> dict[str, DrainState]:
        """Return how far all pods that run are."""
        running = (pod.uid for pod in self.pods.values() if pod.node)
        return {uid: self._drain_of(uid) for uid in running}

    def _drain_of(self, uid: str) -> DrainState:
        counted = self.clock >= self.unready.get(uid, self.clock) + 10
        if uid not in self.out:
            return DrainState(counted=counted)
        over = self.clock >= self.out[uid] + 5
        return DrainState(begun=True, yields=True, over=over, counted=counted)

    def do(self, step: Step) -> None:
        """Do a step as the API server would."""
        victim = self.pods[step.pod]
        if isinstance(step, DrainPod):
            self.out[victim.uid] = self.clock
        elif isinstance(step, ServePod):
            del self.out[victim.uid]
        elif isinstance(step, EvictPod):
            assert self._admits(victim), "who has drained is kept"
            self.pods[step.pod] = replace(victim, terminating=True)

    def _admits(self, victim: Pod) -> bool:
        if victim.labels and self.told.costs(victim.health):
            self.told = replace(self.told, allowed=self.told.allowed - 1)
        return self.told.allowed >= 0


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Return full nodes with pods of which some have a budget."""
    labels: list[dict[str, str] | None] = [{"app": "x"}, {"app": "x"}, None]
    pods = [
        pod(f"v{i}", gpus=4, on=f"n{i % 3}", labels=draw(st.sampled_from(labels))) for i in range(6)
    ]
    pods += [pod(f"w{i}", gpus=8, priority=9) for i in range(3)]
    healthy = sum(bool(p.labels) for p in pods)
    return Cluster(pods={p.key: p for p in pods}, desired=draw(st.integers(1, max(1, healthy))))


def emptying(cluster: Cluster, nodes: set[int]) -> Plan:
    """Return the plan that gives some nodes to a newcomer each."""
    victims = [p for p in cluster.pods.values() if p.node in {f"n{i}" for i in nodes}]
    return plan(
        *(bind(f"w{i}", f"n{i}") for i in nodes),
        *(evict(p.key.name, p.node) for p in victims if p.node),
    )


@given(
    cluster=clusters(),
    plans=st.lists(st.sets(st.integers(0, 2)), min_size=1, max_size=8),
    max_parallel=st.integers(1, 6),
    data=st.data(),
)
@settings(max_examples=max(settings().max_examples, 300))
def test_no_more_are_out_of_service_than_the_budget_admits(
    cluster: Cluster, plans: list[set[int]], max_parallel: int, data: st.DataObject
) -> None:
    """Two pods would drain where one may, or whoever has drained would be kept."""
    floor, settled_at = min(cluster.desired, cluster.serving()), 0
    for nodes in plans:
        made, told = emptying(cluster, nodes), cluster.told  # read before the pods
        # Who yields to no plan any more is put back by its deployment.
        cluster.out = {uid: at for uid, at in cluster.out.items() if uid in _leaving(made)}
        late = data.draw(st.sampled_from(["both", "controller", "neither"]))
        if late != "both":
            cluster.tell()
        if late == "neither":
            cluster.count()
        found = steps.advance(
            made,
            Snapshot.of(NODES, cluster.pods.values(), [told]),
            Policy(max_parallel_moves=max_parallel),
            idle_s=0,
            drains=cluster.drains(),
        )
        for step in found.todo:
            cluster.do(step)
        assert cluster.serving() >= floor
        cluster.clock += data.draw(st.sampled_from([0, 1, 5, 10]))
        if cluster.clock >= settled_at + 10:  # nobody is as late as `counted` supposes
            cluster.tell()
            cluster.count()
            settled_at = cluster.clock


def _leaving(made: Plan) -> set[str]:
    return {victim.uid for victim in made.victims}
