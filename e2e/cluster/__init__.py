"""Clusters to test and demo on: an existing one, kind, or a control plane of our own.

`open_cluster` opens the first of them that this machine can give. Tests, the demo and the
benchmarks start here; everything they need of a cluster is exported below.
"""

from e2e.cluster.choose import open_cluster
from e2e.cluster.errors import BuildFailed, ClusterError, CommandFailed, NoCluster, ProcessDied
from e2e.cluster.handle import Cluster
from e2e.cluster.nodes import add_gpu_nodes, remove_gpu_nodes
from e2e.cluster.ports import PortLease, lease_port
from e2e.cluster.processes import Process, ProcessGroup
from e2e.cluster.waiting import eventually

__all__ = [
    "BuildFailed",
    "Cluster",
    "ClusterError",
    "CommandFailed",
    "NoCluster",
    "PortLease",
    "Process",
    "ProcessDied",
    "ProcessGroup",
    "add_gpu_nodes",
    "eventually",
    "lease_port",
    "open_cluster",
    "remove_gpu_nodes",
]
