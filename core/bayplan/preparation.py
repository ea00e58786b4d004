"""What a pass decides on: the cluster as it was read, with all that is settled before any plan.

Planner and command line start from the same cluster, or `kubectl bayplan plan` would promise what
the planner does not do.
"""

from bayplan.floors import protected
from bayplan.gates import believed
from bayplan.policy import Policy
from bayplan.restraints import restrained
from bayplan.snapshot import Snapshot


def prepared(seen: Snapshot, policy: Policy, *, now: float) -> Snapshot:
    """Return the snapshot in which pins that cannot be kept take no room, and who must stay does.

    Args:
        seen: Nodes, pods and budgets as they are.
        policy: Its cooldown counts.
        now: Seconds since the epoch.
    """
    return protected(restrained(believed(seen), now=now, cooldown_s=policy.cooldown_s))
