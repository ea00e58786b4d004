"""What a pass decides on: the cluster as it was read, with all that is settled before any plan.

Planner and command line start from the same cluster, or `kubectl bayplan plan` would promise what
the planner does not do.
"""

from collections.abc import Mapping
from dataclasses import replace

from bayplan.constraints import Volume
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
    by_claim = {volume.claim: volume for volume in snapshot.volumes}
    pods = tuple(_attached(pod, by_claim) if pod.claims else pod for pod in snapshot.pods)
    return replace(snapshot, pods=pods, volumes=())


def _attached(pod: Pod, by_claim: Mapping[ClaimKey, Volume]) -> Pod:
    claims = (ClaimKey(pod.key.namespace, name) for name in pod.claims)
    volumes = [by_claim[claim] for claim in claims if claim in by_claim]
    # Whoever is pinned already is left to kube-scheduler, which may be able to read it.
    on_its_way = pod.node is not None and not pod.bound
    problems = {each.problem for each in volumes if each.problem and not on_its_way}
    reached = {each.nodes for each in volumes if not each.problem}
    if not problems and not reached:
        return pod
    constraints = replace(
        pod.constraints, volumes=tuple(sorted(reached)), unreadable="; ".join(sorted(problems))
    )
    return replace(pod, constraints=constraints)
