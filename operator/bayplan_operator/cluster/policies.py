"""The PackingPolicy that holds: the one named `default`, or the built-in defaults."""

import structlog

from bayplan.codec import DecodeError, policy_of
from bayplan.policy import RESTRAINED, Policy
from bayplan_operator.cluster.kube import POLICY, Kube

_log = structlog.get_logger()


def read_policy(kube: Kube) -> Policy:
    """Return the policy; while it cannot be read, one that disturbs as little as can be."""
    raw = kube.get(POLICY)
    if raw is None:
        return Policy()
    try:
        return policy_of(raw)
    except DecodeError as error:
        _log.warning("policy_unreadable", error=str(error))
        return RESTRAINED
