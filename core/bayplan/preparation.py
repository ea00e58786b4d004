"""What a pass decides on: the cluster as it was read, with all that is settled before any plan.

Planner and command line start from the same cluster, or `kubectl bayplan plan` would promise what
the planner does not do.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bayplan.constraints import Volume
from bayplan.floors import protected
from bayplan.gates import believed
from bayplan.keys import ClaimKey
from bayplan.policy import Policy
from bayplan.reach import Reach
from bayplan.restraints import restrained
from bayplan.snapshot import Disruption, Pod, Snapshot


def prepared(seen: Snapshot, policy: Policy, *, now: float) -> Snapshot:
    """Return the snapshot in which pins that cannot be kept take no room, and who must stay does.

    Nobody is to go where its volumes are not.

    Args:
        seen: Nodes, pods, budgets and volumes as they are.
        policy: Its cooldown counts.
        now: Seconds since the epoch.
    """
    placed = believed(attached(seen))
    return protected(restrained(placed, now=now, cooldown_s=policy.cooldown_s))


def attached(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot with what its volumes ask of a node written on each pod that has any."""
    if not snapshot.volumes:
        return snapshot
    by_claim = {volume.claim: volume for volume in snapshot.volumes}
    reach = Reach(snapshot.nodes)

    def with_volumes(pod: Pod) -> Pod:
        claims = (ClaimKey(pod.key.namespace, name) for name in pod.claims)
        volumes = [by_claim[claim] for claim in claims if claim in by_claim]
        if not volumes:
            return pod
        if pod.node is not None and pod.bound:
            return _running(pod, volumes, reach, snapshot.rows.get(pod.node))
        return _asking(pod, volumes)

    pods = tuple(with_volumes(pod) if pod.claims else pod for pod in snapshot.pods)
    return replace(snapshot, pods=pods, volumes=())


def _asking(pod: Pod, volumes: Iterable[Volume]) -> Pod:
    """Return a pod that is to get a node, or is pinned to one.

    Of one that is pinned it is not said what cannot be read: kube-scheduler may know better.
    """
    problems = {each.problem for each in volumes if each.problem and pod.node is None}
    reached = {each.nodes for each in volumes if not each.problem}
    constraints = replace(
        pod.constraints, volumes=tuple(sorted(reached)), unreadable="; ".join(sorted(problems))
    )
    return replace(pod, constraints=constraints)


def _running(pod: Pod, volumes: Sequence[Volume], reach: Reach, at: int | None) -> Pod:
    """Return a pod that runs: it asks for nodes only if there is another one to move it to.

    Else pods with disks inside their nodes would all be different, each for its disk.
    """
    if pod.disruption is not Disruption.MOVABLE:
        return pod
    if any(each.problem or {*reach.of(each.nodes)} <= {at} for each in volumes):
        return replace(pod, disruption=Disruption.EVICTABLE)
    return _asking(pod, volumes)
