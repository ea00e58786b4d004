"""A small cluster in which a plan is carried out while things happen in any order."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from hypothesis import strategies as st

from bayplan import steps
from bayplan.cluster.keys import NodeName, PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot
from bayplan.inference.drains import DrainState
from bayplan.plan import (
    Bind,
    Evict,
    Move,
    Plan,
)
from bayplan.policy import Policy
from bayplan.steps import DrainPod, EvictPod, Phase, Progress, ReleasePod, ServePod, Step
from tests.builders import node, pod
from tests.scenes.steps import bind, evict, move, plan


@dataclass
class World:
    """A cluster that does what it is told, late, while strangers come and nodes go.

    `requests` are the rounds that a serving pod needs to finish its requests, by uid; `draining`
    the rounds that those still need which are out of service.
    """

    nodes: dict[str, Node]
    pods: dict[PodKey, Pod]
    requests: dict[str, int] = field(default_factory=dict)
    draining: dict[str, int] = field(default_factory=dict)
    clock: int = 0
    owed: list[Pod] = field(default_factory=list)
    evicted: list[str] = field(default_factory=list)

    def snapshot(self) -> Snapshot:
        """Return the cluster as it is now."""
        return Snapshot.of(self.nodes.values(), self.pods.values())

    def do(self, step: Step) -> None:
        """Do one step as the API server would: only for the pod with that uid."""
        found = self.pods.get(step.pod)
        if found is None or found.uid != step.uid:
            return
        if isinstance(step, DrainPod):
            assert found.uid not in self.draining, "drained twice"
            self.draining[found.uid] = self.requests[found.uid]
        elif isinstance(step, ServePod):
            del self.draining[found.uid]
        elif isinstance(step, EvictPod):
            assert self.drain_of(found.uid).over, "evicted while it serves"
            self.evicted.append(found.uid)
            self.pods[step.pod] = replace(found, terminating=True)
        else:
            assert isinstance(step, ReleasePod)
            assert found.waiting, "released twice"
            self.pods[step.pod] = replace(
                found, node=step.node, waiting=False, bound=False, replaces=step.replaces
            )

    def drain_of(self, uid: str) -> DrainState:
        """Return how far a pod is; nobody has to wait for one that never serves."""
        if uid not in self.draining:
            return DrainState(over=uid not in self.requests)
        return DrainState(begun=True, over=not self.draining[uid], yields=True)

    def drains(self) -> Mapping[str, DrainState]:
        """Return how far the pods are that may serve."""
        return {uid: self.drain_of(uid) for uid in self.requests}

    def finish(self) -> None:
        """Let a round of requests be done."""
        self.draining = {uid: max(0, n - 1) for uid, n in self.draining.items()}

    def bind(self, key: PodKey) -> None:
        """Bind a pinned pod if its node has room, as kube-scheduler does."""
        found = self.pods[key]
        if found.node in self.nodes and not found.terminating:
            self.pods[key] = replace(found, bound=True)

    def end(self, key: PodKey) -> None:
        """Let a terminating pod be gone; its owner makes another one some time."""
        found = self.pods.pop(key)
        if found.owner is not None:
            self.owed.append(found)

    def repay(self) -> None:
        """Let an owner make the oldest owed pod again, gated."""
        old = self.owed.pop(0)
        self.clock += 1
        name = f"{old.key.name}-again" if old.owner and old.owner.kind == "ReplicaSet" else ""
        new = replace(
            old,
            key=old.key._replace(name=name or old.key.name),
            uid=f"{old.uid}-again{self.clock}",
            node=None,
            waiting=True,
            terminating=False,
            replaces="",
            created_at=self.clock,
        )
        self.pods[new.key] = new

    def intrude(self, name: NodeName, gpus: int) -> None:
        """Let a stranger's pod take room, if there is some (the default scheduler checks)."""
        stranger = pod(f"stranger-{len(self.pods)}-{self.clock}", gpus=gpus, on=name)
        self.clock += 1
        bound = Snapshot.of(self.nodes.values(), [p for p in self.pods.values() if p.bound])
        if stranger.requests.fits(bound.free()[name]):
            self.pods[stranger.key] = replace(stranger, disruption=Disruption.FIXED, owner=None)


NODES = ("n1", "n2", "n3")


@st.composite
def scenes(draw: st.DrawFn) -> tuple[World, Plan]:
    """Return a cluster and a plan that was right when it was made."""
    nodes = {name: node(name) for name in NODES}
    pods: dict[PodKey, Pod] = {}
    actions: list[Bind | Move | Evict] = []
    free = dict.fromkeys(NODES, 8)  # in the end, with every victim gone and every home taken
    now = dict.fromkeys(NODES, 8)  # at the start
    for i in range(draw(st.integers(0, 6))):
        source, gpus = draw(st.sampled_from(NODES)), draw(st.sampled_from([1, 2, 4]))
        if now[source] < gpus:
            continue
        now[source] -= gpus
        fate = draw(st.sampled_from(["stay", "evict", "move"]))
        gang = draw(st.sampled_from([None, "x", "y"])) if fate == "evict" else None
        made = pod(f"v{i}", gpus=gpus, on=source, gang=gang, min_count=2 if gang else 0)
        pods[made.key] = made
        targets = [name for name in NODES if name != source and free[name] >= gpus]
        if fate == "stay" and free[source] >= gpus:
            free[source] -= gpus
        elif fate == "evict" or not targets:
            actions.append(evict(f"v{i}", source, gang))
        else:
            target = draw(st.sampled_from(targets))
            free[target] -= gpus
            actions.append(move(f"v{i}", source, target, made.owner))
    for i in range(draw(st.integers(0, 6))):
        home, gpus = draw(st.sampled_from(NODES)), draw(st.sampled_from([1, 2, 4, 8]))
        gang = draw(st.sampled_from([None, "g", "h"]))
        if free[home] >= gpus:
            free[home] -= gpus
            made = pod(f"w{i}", gpus=gpus, gang=gang, min_count=1, priority=9)
            pods[made.key] = made
            actions.append(bind(f"w{i}", home, gang))
    lengths = st.none() | st.integers(0, 6)
    drawn = {p.uid: draw(lengths) for p in pods.values() if p.node}
    requests = {uid: n for uid, n in drawn.items() if n is not None}
    return World(nodes=nodes, pods=pods, requests=requests), plan(*actions)


HAPPENINGS = st.lists(
    st.sampled_from(["bind", "end", "repay", "intrude", "lose", "leave", "finish", "serve"]),
    max_size=12,
)


def happen(world: World, what: str, draw: st.DataObject) -> None:
    """Let one thing happen in the cluster."""
    pods = sorted(world.pods.values(), key=lambda p: p.key)
    ready = {
        "bind": [p.key for p in pods if p.node is not None and not p.bound],
        "end": [p.key for p in pods if p.terminating],
    }
    if ready.get(what):
        chosen = draw.draw(st.sampled_from(ready[what]))
        (world.bind if what == "bind" else world.end)(chosen)
    elif what == "leave" and pods:
        del world.pods[draw.draw(st.sampled_from(pods)).key]  # deleted, or its work is done
    elif what == "finish":
        world.finish()
    elif what == "serve":
        world.draining = {}  # somebody put them back, or the operator has forgotten them
    elif what == "repay" and world.owed:
        world.repay()
    elif what == "intrude" and world.nodes:
        chosen_node = draw.draw(st.sampled_from(sorted(world.nodes)))
        world.intrude(NodeName(chosen_node), draw.draw(st.integers(1, 4)))
    elif what == "lose" and len(world.nodes) > 1:
        lost = draw.draw(st.sampled_from(sorted(world.nodes)))
        del world.nodes[lost]
        gone = [k for k, p in world.pods.items() if p.node == lost and p.bound]
        for k in gone:
            world.end(k)


def overcommitted(world: World) -> Mapping[NodeName, Resources]:
    """Return nodes on which the pods we placed do not fit beside what was bound before them."""
    return {
        name: room
        for name, room in world.snapshot().free().items()
        if any(n < 0 for _, n in room.items)
    }


@dataclass
class Patience:
    """Asks what to do next of a plan as the operator does: what stands still for long is given up.

    Attributes:
        every_s: Seconds that pass from one look to the next.
    """

    every_s: int
    _idle_s: int = 0
    _states: object = None

    def ask(self, look: Callable[..., Progress]) -> Progress:
        """Return what a look finds that knows for how long the plan has stood still."""
        now = look(idle_s=0)
        states = [(report.pod, report.state) for report in now.reports]
        still = states == self._states and not now.patient
        self._idle_s, self._states = self._idle_s + self.every_s if still else 0, states
        return look(idle_s=self._idle_s)


def rounds(world: World, made: Plan, trouble: st.DataObject | None) -> Iterator[Progress]:
    """Carry the plan out, letting things happen in between; settle down after some rounds."""
    patience = Patience(every_s=20)
    for turn in range(100):
        look = partial(
            steps.advance,
            made,
            world.snapshot(),
            Policy(max_parallel_moves=2),
            drains=world.drains(),
        )
        found = patience.ask(look)
        yield found
        if found.phase is not Phase.EXECUTING:
            return
        if trouble is not None and turn < 6:  # shorter than a standstill from whatever happens
            # The operator may die, or be refused, between two steps.
            for step in found.todo[: trouble.draw(st.integers(0, len(found.todo)))]:
                world.do(step)
            for what in trouble.draw(HAPPENINGS):
                happen(world, what, trouble)
        else:
            for step in found.todo:
                world.do(step)
            settle(world)


def settle(world: World) -> None:
    """Let everything that is on its way arrive."""
    world.finish()
    for k in [k for k, p in world.pods.items() if p.terminating]:
        world.end(k)
    free = world.snapshot().free()
    for k in [k for k, p in world.pods.items() if p.node is not None and not p.bound]:
        name = world.pods[k].node
        if name in free and world.pods[k].requests.fits(free[name] + world.pods[k].requests):
            world.bind(k)
    while world.owed:
        world.repay()
