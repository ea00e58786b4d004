"""Choose the cluster: an existing one, else a control plane of our own, else kind.

Tests and the demo ask for "a cluster" and get the first that this machine can give; with
BAYPLAN_CLUSTER=kind they get kind or nothing. A machine that can give none says so, with what to
install or set for each way.
"""

import os
from contextlib import AbstractContextManager

from e2e.cluster import existing, kind, local
from e2e.cluster.errors import NoCluster
from e2e.cluster.handle import Cluster
from e2e.cluster.progress import Progress, to_stderr


def open_cluster(*, progress: Progress = to_stderr) -> AbstractContextManager[Cluster]:
    """Open the first cluster that is available; leaving the `with` block closes it.

    Raises:
        NoCluster: None is; the message says what to install or set.
        ClusterError: The chosen one did not come up.
    """
    reasons = [existing.unavailable()]
    if reasons[-1] is None:
        return existing.open_existing(progress=progress)
    reasons.append(_kind_is_asked_for() or local.unavailable())
    if reasons[-1] is None:
        return local.open_local(progress=progress)
    reasons.append(kind.unavailable(progress=progress))
    if reasons[-1] is None:
        return kind.open_kind(progress=progress)
    listed = "".join(f"\n- {reason}" for reason in reasons)
    raise NoCluster(f"no cluster to run on; one of these has to change:{listed}")


def _kind_is_asked_for() -> str | None:
    """Say that kind is what the caller wants, or None."""
    if os.environ.get("BAYPLAN_CLUSTER") == "kind":
        return "the local control plane is ruled out by BAYPLAN_CLUSTER=kind"
    return None
