"""Writing to the pods of one InferenceDeployment, where one that fails holds up no other.

A server that fails for one pod (500, 503, 504: a webhook is down, say; 429: it has too much to do)
may serve the next one. So the pass goes on, and that pod is tried again with growing pauses. Only
without any answer the others fare no better, and the pass ends.
"""

from collections.abc import Callable
from typing import Final

import structlog
from kubernetes.client.exceptions import ApiException

from bayplan_operator.cluster.kube import OVERTAKEN, REFUSALS, message_of
from bayplan_operator.cluster.refusals import Refusals

_log = structlog.get_logger()

_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERROR: Final = 500

#: Seconds between two tries from which on a failure is told; most are over before.
_LASTING_S: Final = 8.0


class Attempts:
    """What is tried on the pods `of` one deployment, pass after pass."""

    def __init__(self, clock: Callable[[], float], *, of: str) -> None:
        self._of = of
        self._failures: Refusals[str] = Refusals(clock)
        self._tried: set[str] = set()

    def end(self) -> bool:
        """End a pass; return whether something has failed that it tried, or would have.

        Else there is nothing to be remembered.
        """
        self._failures.keep(self._tried)
        self._tried = set()
        return self.wait_s() is not None

    def make(self, what: str, do: Callable[[], object]) -> str | None:
        """Try to `do` something to a pod, `what` in words; return why it is refused.

        "" when it is done, or was overtaken; None when the server failed, or has failed at the same
        a moment ago.

        Raises:
            ApiException: There was no answer, or one that is not about this pod.
        """
        self._tried.add(what)
        if not self._failures.is_due(what):
            return None
        try:
            do()
        except ApiException as error:
            return self._judge(what, error)
        self._failures.note(what, "")
        return ""

    def wait_s(self) -> float | None:
        """Return the seconds until the first failure may be tried again; None without any."""
        return self._failures.wait_s()

    def lasting(self) -> str:
        """Return in words what has failed for some time and is tried in this pass, or ""."""
        failures = (self._failures.of(what) for what in sorted(self._tried))
        lasting = (each for each in failures if each is not None and each.retry_s >= _LASTING_S)
        return next((each.message for each in lasting), "")

    def _judge(self, what: str, error: ApiException) -> str | None:
        status = int(error.status or 0)
        if status in OVERTAKEN | REFUSALS:
            self._failures.note(what, "")
        if status in OVERTAKEN:
            return ""
        if status in REFUSALS:
            _log.warning("pod_refused", infd=self._of, what=what, error=message_of(error))
            return message_of(error)
        if status < _SERVER_ERROR and status != _TOO_MANY_REQUESTS:
            raise error
        told = f"the API server fails to {what}: {message_of(error)}; it is tried again"
        self._failures.note(what, told)
        _log.warning("pod_failed", infd=self._of, what=what, error=message_of(error))
        return None
