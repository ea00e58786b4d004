"""Lend the integration tests a cluster."""

from e2e.cluster.pytest_plugin import cluster, namespace

__all__ = ["cluster", "namespace"]
