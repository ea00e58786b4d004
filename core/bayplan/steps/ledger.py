"""What one pass over a plan knows of the cluster: pods, nodes, and the room that is left."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from bayplan.api import names
from bayplan.cluster.keys import NodeName, PodKey
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot
from bayplan.inference.drains import DrainState
from bayplan.plan import Bind, Evict, Move, Plan
from bayplan.rules.peers import Neighbours

#: Seconds without progress after which a plan gives up what waits: an eviction that a
#: PodDisruptionBudget keeps refusing, a pinned pod that the scheduler does not bind.
STALL_S: Final = 120

#: The same while it waits for pods that are leaving: serving pods may drain for minutes.
LEAVING_STALL_S: Final = 900

#: How far a victim is that need not finish anything.
NO_DRAIN: Final = DrainState(over=True, counted=True)

#: Owners that give a pod made again the name of the one that is gone.
_SAME_NAME: Final = frozenset({names.KIND_DEPLOYMENT, "StatefulSet"})


class Ledger:
    """One look at the cluster: rooms shrink as steps are chosen.

    Two accounts are kept of each node. `free` is the room there is now: what is released must
    fit in it. `due` adds what leaving pods will give back and subtracts every home that the plan
    still owes: a home that does not fit in it will never be there.

    Attributes:
        plan: The plan that is carried out.
        drains: How far victims are that finish their requests first, by uid; others need not.
        nodes: The nodes that it touches, by name.
        pods: All pods that are seen, by key.
        free: Room that nobody uses.
        due: Room that will be there for homes that are still to come.
        going: The pods on it that are being deleted, or are victims of the plan, in order.
        terminated: Room that pods will give back which are being deleted, or give way.
        owed: Room for homes that wait.
        budgets: The PodDisruptionBudgets over its victims.
        awaits_replacement: Whether room that the plan waits for is that of a pod whose replacement
            starts.
        replaced_by: By when each of these that is no victim of the plan is gone, in seconds since
            the epoch.
        idle_s: Seconds of standstill.
        now: When this was looked at, in seconds since the epoch.
        stalled: Whether that is longer than anything takes that the plan waits for.
        staying: The pods that neither leave nor are placed by the plan, as neighbours of its homes.
        denied: Why the API server refuses to release or evict pods, by uid.
        finished: The pods that have run to their end, by uid.
    """

    def __init__(  # noqa: PLR0913 - all that is known
        self,
        plan: Plan,
        snapshot: Snapshot,
        drains: Mapping[str, DrainState],
        idle_s: float,
        denied: Mapping[str, str],
        *,
        now: float,
        finished: Collection[str],
    ) -> None:
        self.plan = plan
        self.denied = denied
        self.finished = finished
        self.drains = drains
        self.nodes = {node.name: node for node in snapshot.nodes}
        self.pods = {pod.key: pod for pod in snapshot.pods}
        self.free = snapshot.free()
        self.due = dict(self.free)
        self.terminated = dict.fromkeys(self.free, Resources())
        self.going: dict[NodeName, list[Pod]] = defaultdict(list)
        self.owed: dict[NodeName, Resources] = defaultdict(Resources)
        self.budgets = snapshot.budgets
        self.idle_s = idle_s
        self.now = now
        self._count_leaving(snapshot.placed())
        awaited = self._awaited(snapshot.placed())
        self.awaits_replacement = any(pod.gives_way_by for pod in awaited)
        victims = {victim.uid for victim in plan.victims}
        others = (pod for pod in awaited if pod.gives_way_by and pod.uid not in victims)
        self.replaced_by = [pod.gone_by for pod in others]
        self.staying = self._staying(snapshot)
        self.stalled = idle_s >= (LEAVING_STALL_S if awaited else STALL_S)

    def remaining(self, victim: Move | Evict) -> Pod | None:
        """Return the victim while it is still where the plan saw it."""
        pod = self.pods.get(victim.pod)
        there = pod is not None and pod.uid == victim.uid and pod.node == source_of(victim)
        return pod if there else None

    def drain_of(self, victim: Move | Evict) -> DrainState:
        """Return how far a victim is with its requests; most have none to finish."""
        return self.drains.get(victim.uid, NO_DRAIN)

    def take(self, node: NodeName, asks: Resources) -> None:
        """Count the room of a home as used from now on, and as owed no more."""
        self.free[node] = self.free[node] - asks
        self.owed[node] = self.owed[node] - asks

    def taken(self) -> Mapping[str, Pod]:
        """Return the pods that have taken a moved pod's place, by its uid."""
        moves = {move.uid: move for move in self.plan.moves}
        said = [p for p in self.pods.values() if p.replaces in moves and not p.terminating]
        return {p.replaces: p for p in said if moves[p.replaces].is_replaced_by(p)}

    def newcomers_by_owner(self) -> Mapping[str, list[Pod]]:
        """Return pods that may take a moved pod's place, by their owner's uid, oldest first.

        A pod that the plan has decided on waited already when it was made, so it is none.
        """
        decided = {b.uid for b in self.plan.binds} | {h.uid for h in self.plan.holds}
        pods = [p for p in self.pods.values() if p.waiting and p.uid not in decided]
        by_owner: dict[str, list[Pod]] = defaultdict(list)
        for pod in sorted(pods, key=lambda p: (p.created_at, p.key)):
            if pod.owner and not pod.terminating:
                by_owner[pod.owner.uid].append(pod)
        return by_owner

    def _count_leaving(self, placed: Iterable[Pod]) -> None:
        """Add to `due` and `terminated` what pods will give back."""
        victims = {victim.uid for victim in self.plan.victims}
        leaving = [pod for pod in placed if _leaves(pod) or pod.uid in victims]
        for pod in leaving:
            if pod.node in self.due:
                self.due[pod.node] = self.due[pod.node] + pod.requests
                self.going[pod.node].append(pod)
            if pod.node in self.terminated and _leaves(pod):
                self.terminated[pod.node] = self.terminated[pod.node] + pod.requests

    def _staying(self, snapshot: Snapshot) -> Neighbours | None:
        """Return the pods beside which the plan places others; None where nobody asks for that."""
        if not any(kind.constraints.peers for kind in snapshot.kinds):
            return None
        changes = {bind.uid for bind in self.plan.binds}
        changes |= {pod.uid for pod in self.taken().values()}
        changes |= {victim.uid for victim in self.plan.victims}
        stay = (p for p in snapshot.placed() if not _leaves(p) and p.uid not in changes)
        return Neighbours(Snapshot.of(snapshot.nodes, stay))

    def _awaited(self, placed: Iterable[Pod]) -> list[Pod]:
        """Return the pods that are leaving whose room, or whose going, the plan waits for.

        One that will not end, on a node where every home has room, is no matter of the plan.
        """
        victims = {victim.uid for victim in self.plan.victims}
        asks: dict[NodeName, Resources] = defaultdict(Resources)
        for action, pod in self._still_to_come():
            asks[home_of(action)] = asks[home_of(action)] + pod.requests.on_device(action.device)
        short = {name for name in asks if not asks[name].fits(self.free.get(name, Resources()))}
        leaving = (pod for pod in placed if _leaves(pod))
        return [pod for pod in leaving if pod.uid in victims or pod.node in short]

    def _still_to_come(self) -> Iterator[tuple[Bind | Move, Pod]]:
        """Yield the homes that are not taken yet, each with the pod for whose size it is."""
        for bind in self.plan.binds:
            pod = self.pods.get(bind.pod)
            if pod is not None and pod.uid == bind.uid and pod.node is None:
                yield bind, pod
        taken, newcomers = self.taken(), self.newcomers_by_owner()
        for move in self.plan.moves:
            if move.uid not in taken:
                victim = self.remaining(move)
                if victim is not None and victim.gives_way_by:
                    continue  # its replacement is there, if not in sight
                pod = victim or pop_replacement(move, newcomers)
                if pod is not None:
                    yield move, pod


def _leaves(pod: Pod) -> bool:
    """Return whether a pod is on its way out, whatever becomes of the plan."""
    return pod.terminating or bool(pod.gives_way_by)


def pop_replacement(move: Move, newcomers: Mapping[str, list[Pod]]) -> Pod | None:
    """Take the pod that its owner made in the place of a moved one off the list."""
    candidates = newcomers.get(move.owner.uid, []) if move.owner else []
    kind = move.owner.kind if move.owner else ""
    found = next((p for p in candidates if kind not in _SAME_NAME or p.key == move.pod), None)
    if found is None and kind == names.KIND_DEPLOYMENT:
        # It gives the lowest number that is free in unit and pool, if not the same.
        found = next((p for p in candidates if _slot(p.key) == _slot(move.pod)), None)
    if found is not None:
        candidates.remove(found)
    return found


def _slot(key: PodKey) -> str:
    """Return the name of a pod without its number."""
    return key.name.rpartition("-")[0]


def source_of(victim: Move | Evict) -> NodeName:
    """Return the node that a victim gives up."""
    return victim.source if isinstance(victim, Move) else victim.node


def home_of(action: Bind | Move) -> NodeName:
    """Return the node that a pod, or its replacement, gets."""
    return action.target if isinstance(action, Move) else action.node
