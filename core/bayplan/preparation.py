"""What a pass decides on: the cluster as it was read, with all that is settled before any plan.

Planner and command line start from the same cluster, or `kubectl bayplan plan` would promise what
the planner does not do.
"""

from collections.abc import Mapping
from dataclasses import replace

from bayplan.constraints import NodeTerm
from bayplan.floors import protected
from bayplan.gates import believed
from bayplan.keys import ClaimKey, NodeName
from bayplan.policy import Policy
from bayplan.restraints import restrained
from bayplan.snapshot import Disruption, Pod, Snapshot
from bayplan.units import SHARED_GPU


def prepared(seen: Snapshot, policy: Policy, *, now: float) -> Snapshot:
    """Return the snapshot in which pins that cannot be kept take no room, and who must stay does.

    Nobody is to go where its volumes are not.

    Args:
        seen: Nodes, pods, budgets and volumes as they are.
        policy: Its cooldown counts.
        now: Seconds since the epoch.
    """
    placed = believed(on_listed_gpus(attached(seen)))
    return protected(restrained(placed, now=now, cooldown_s=policy.cooldown_s))


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
    reached: dict[ClaimKey, tuple[NodeTerm, ...]] = {v.claim: v.nodes for v in snapshot.volumes}
    pods = tuple(_attached(pod, reached) if pod.claims else pod for pod in snapshot.pods)
    return replace(snapshot, pods=pods, volumes=())


def _attached(pod: Pod, reached: Mapping[ClaimKey, tuple[NodeTerm, ...]]) -> Pod:
    claims = (ClaimKey(pod.key.namespace, name) for name in pod.claims)
    volumes = tuple(sorted({reached[claim] for claim in claims if claim in reached}))
    if not volumes:
        return pod
    return replace(pod, constraints=replace(pod.constraints, volumes=volumes))
