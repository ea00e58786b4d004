"""What a pass decides on: the cluster as it was read, with all that is settled before any plan.

Planner and command line start from the same cluster, or `kubectl bayplan plan` would promise what
the planner does not do.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from bayplan.cluster.constraints import Volume
from bayplan.cluster.keys import ClaimKey, GangKey, NodeName
from bayplan.cluster.pods import Disruption, Ended, Pod, ended_with, newest_member
from bayplan.cluster.snapshot import Snapshot
from bayplan.cluster.units import SHARED_GPU
from bayplan.codec import PublishedPlan
from bayplan.gates import believed
from bayplan.policy import Policy
from bayplan.rules.admission import refused, set_aside
from bayplan.rules.minimums import protected
from bayplan.rules.reach import Reach
from bayplan.rules.recalls import set_back, standing
from bayplan.rules.restraints import restrained


def prepared(
    seen: Snapshot, policy: Policy, *, plans: Collection[PublishedPlan], now: float
) -> Snapshot:
    """Return the snapshot in which pins that cannot be kept take no room, and who must stay does.

    Nobody is to go where its volumes are not, or to wait for pods of its gang that have ended, and
    who was refused of late is not asked for too soon.

    Args:
        seen: Nodes, pods, budgets and volumes as they are.
        policy: Its cooldown counts.
        plans: The last plans, as they stand.
        now: Seconds since the epoch.
    """
    there = set_aside(seen, refused(plans, now=now, cooldown_s=policy.cooldown_s))
    there = set_back(there, standing(plans, now=now), now=now)
    placed = believed(on_listed_gpus(attached(without_ended(there))))
    return protected(restrained(placed, now=now, cooldown_s=policy.cooldown_s))


def without_ended(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot in which a gang needs no more pods than there are to come.

    Pods of a Job that have ended well are not made again. One that takes the place of a failed one
    would wait for them for ever. Those of another owner may be of an earlier gang of that name.
    """
    if not snapshot.ended:
        return snapshot
    ended, there = defaultdict[GangKey, list[Ended]](list), defaultdict[GangKey, list[Pod]](list)
    for member in snapshot.ended:
        ended[member.gang].append(member)
    for pod in snapshot.in_gangs:
        if pod.gang is not None and pod.gang in ended and not pod.terminating:
            there[pod.gang].append(pod)
    needed = {
        gang: len(pods)
        for gang, pods in there.items()
        if len(pods) < newest_member(pods).gang_min_count <= _in_all(pods, ended[gang])
    }
    if not needed:
        return snapshot
    pods = (
        replace(pod, gang_min_count=needed[pod.gang]) if pod.gang in needed else pod
        for pod in snapshot.pods
    )
    return replace(snapshot, pods=tuple(pods), ended=())


def _in_all(there: Sequence[Pod], ended: Iterable[Ended]) -> int:
    """Return how many pods a gang has, those included that have ended well in the same run."""
    return len(there) + len(ended_with(there, ended))


def on_listed_gpus(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot in which a share is on no GPU that its node does not list.

    A node that loses a GPU lists one less, and nobody says which. A share that is beyond is on a
    GPU that nobody knows: it counts as a whole one, nobody joins it, and it is not disturbed.
    """
    if not any(kind.requests.device is not None for kind in snapshot.kinds):
        return snapshot
    gpus = {node.name: node.allocatable[SHARED_GPU] for node in snapshot.nodes}
    pods = tuple(_on_listed_gpu(pod, gpus) for pod in snapshot.pods)
    return replace(snapshot, pods=pods)


def _on_listed_gpu(pod: Pod, gpus: Mapping[NodeName, int]) -> Pod:
    device, node = pod.requests.device, pod.node
    if device is None or node is None or device < gpus.get(node, device + 1):
        return pod
    why = f"has a share of GPU {device} of {node}, which lists only {gpus[node]}"
    return replace(
        pod,
        requests=pod.requests.on_device(None),
        disruption=Disruption.FIXED,
        fixed_by=why,
    )


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
