"""Choose the cluster: an existing one, else kind, else a control plane of our own.

Tests and the demo ask for "a cluster" and get the first that this machine can give. A machine
that can give none says so, with what to install or set for each way.
"""

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
    reasons.append(kind.unavailable(progress=progress))
    if reasons[-1] is None:
        return kind.open_kind(progress=progress)
    reasons.append(local.unavailable())
    if reasons[-1] is None:
        return local.open_local(progress=progress)
    listed = "".join(f"\n- {reason}" for reason in reasons)
    raise NoCluster(f"no cluster to run on; one of these has to change:{listed}")
