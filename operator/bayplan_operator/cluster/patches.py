"""What it means that one pod of many could not be patched: the others must not wait for it."""

from typing import Final

import structlog
from kubernetes.client.exceptions import ApiException

from bayplan.cluster.keys import PodKey
from bayplan_operator.cluster.kube import OVERTAKEN, message_of
from bayplan_operator.metrics import Metrics

_log = structlog.get_logger()

_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERROR: Final = 500


def note_failure(error: ApiException, *, pod: PodKey, purpose: str, metrics: Metrics) -> bool:
    """Log and count that a pod was not patched; return whether another try may help.

    It does not where the pod itself is the reason: its annotations are full (422), or an
    admission policy says no (403).

    Raises:
        ApiException: There was no answer, so the others fare no better.
    """
    status = int(error.status or 0)
    if not status:
        raise error
    if status in OVERTAKEN:
        return False
    metrics.patches_failed.labels(purpose).inc()
    _log.warning("pod_not_patched", purpose=purpose, pod=str(pod), error=message_of(error))
    return status == _TOO_MANY_REQUESTS or status >= _SERVER_ERROR
