"""What a pass decides on: the cluster as it was read, with all that is settled before any plan.

Planner and command line start from the same cluster, or `kubectl bayplan plan` would promise what
the planner does not do.
"""

from collections.abc import Mapping
from dataclasses import replace

from bayplan.constraints import NodeTerm
from bayplan.floors import protected
from bayplan.gates import believed
from bayplan.keys import ClaimKey
from bayplan.policy import Policy
from bayplan.restraints import restrained
from bayplan.snapshot import Pod, Snapshot


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
    reached: dict[ClaimKey, tuple[NodeTerm, ...]] = {v.claim: v.nodes for v in snapshot.volumes}
    pods = tuple(_attached(pod, reached) if pod.claims else pod for pod in snapshot.pods)
    return replace(snapshot, pods=pods, volumes=())


def _attached(pod: Pod, reached: Mapping[ClaimKey, tuple[NodeTerm, ...]]) -> Pod:
    claims = (ClaimKey(pod.key.namespace, name) for name in pod.claims)
    volumes = tuple(sorted({reached[claim] for claim in claims if claim in reached}))
    if not volumes:
        return pod
    return replace(pod, constraints=replace(pod.constraints, volumes=volumes))
