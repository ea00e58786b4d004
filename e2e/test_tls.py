"""The webhook and the unmodified kube-scheduler over TLS."""

from collections.abc import Sequence

import pytest

from e2e import test_extender
from e2e.cluster import Cluster
from e2e.cluster.certificates import Authority
from e2e.stack import install, tls_folder
from e2e.test_extender import PROGRAMS, binds, calls, node_of

nodes = test_extender.nodes


def test_they_speak_tls_and_renewed_certificates_are_used(
    cluster: Cluster, nodes: Sequence[str], namespace: str
) -> None:
    """A scheduler that cannot ask skips us in silence: pods would be bound without our answer."""
    if cluster.flavor != "local":
        pytest.skip("elsewhere the programs are pods, whose certificates cert-manager makes")
    authority = Authority()
    with install(cluster, programs=PROGRAMS, tls=authority) as stack:
        binds(cluster, namespace, "a")
        assert calls(stack, "filter") == 1

        authority.issue("bayplan-webhook", tls_folder(cluster, "webhook"))
        stack.stop("scheduler")  # its connections are kept alive: only a new one sees the files
        stack.start("scheduler")
        binds(cluster, namespace, "b")
        assert "certificate_renewed" in stack.log("webhook")
        assert calls(stack, "filter") == 2
    assert {node_of(cluster, namespace, name) for name in "ab"} <= set(nodes)
