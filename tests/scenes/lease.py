"""The one Lease of an API server, for those who want to lead."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import ReadTimeoutError

from bayplan_extender.planner.lease import Lease


class Server:
    """The one Lease of an API server, and the time; stands in for the client.

    Attributes:
        lease: It, or None.
        now: The time, for everybody (seconds).
        answers_after_s: What each answer takes; half of it goes by before the call has its effect.
        overtaken_by: Who takes the lease while the next call is on its way.
    """

    def __init__(self) -> None:
        self.lease: Any = None
        self.now = 0.0
        self.answers_after_s = 0.0
        self.overtaken_by = ""

    def of(self, identity: str) -> Lease:
        """Return the lease as a planner sees it."""
        return Lease(self, "ns", identity, clock=lambda: self.now)  # type: ignore[arg-type]

    @contextmanager
    def _taking_time(self, limit_s: float) -> Iterator[None]:
        took_s = self.answers_after_s
        self.now += min(took_s / 2, limit_s)
        try:
            yield
        finally:
            self.now += min(took_s / 2, max(0.0, limit_s - took_s / 2))
        if took_s > limit_s:
            raise ReadTimeoutError(None, "/apis", "no answer")  # type: ignore[arg-type]

    def read_namespaced_lease(self, *_: str, _request_timeout: float) -> Any:  # noqa: ANN401 - as the library
        """Return a copy."""
        with self._taking_time(_request_timeout):
            return self._copy()

    def _copy(self) -> Any:  # noqa: ANN401 - as the library
        if self.lease is None:
            raise ApiException(status=404, reason="Not Found")
        spec, metadata = self.lease.spec, self.lease.metadata
        return client.V1Lease(
            metadata=client.V1ObjectMeta(
                resource_version=metadata.resource_version, annotations=metadata.annotations
            ),
            spec=spec and client.V1LeaseSpec(**spec.to_dict()),
        )

    def create_namespaced_lease(self, _: str, body: Any, *, _request_timeout: float) -> Any:  # noqa: ANN401
        """Keep it, unless there is one."""
        with self._taking_time(_request_timeout):
            if self.lease is not None or self.overtaken_by:
                self._overtake()
            return self._keep(body)

    def replace_namespaced_lease(
        self,
        _: str,
        __: str,
        body: Any,  # noqa: ANN401 - as the library
        *,
        _request_timeout: float,
    ) -> Any:  # noqa: ANN401 - as the library
        """Keep it, if it is still what was read."""
        with self._taking_time(_request_timeout):
            if self.overtaken_by:
                self._overtake()
            if body.metadata.resource_version != self.lease.metadata.resource_version:
                raise ApiException(status=409, reason="Conflict")
            return self._keep(body)

    def _overtake(self) -> None:
        identity, self.overtaken_by = self.overtaken_by, ""
        if identity:
            assert self.of(identity).hold()
        raise ApiException(status=409, reason="Conflict")

    def _keep(self, body: Any) -> Any:  # noqa: ANN401 - the library's Lease
        version = f"{self.now} {body.spec.holder_identity}"
        body.spec.renew_time = str(self.now)
        annotations = body.metadata.annotations
        metadata = client.V1ObjectMeta(resource_version=version, annotations=annotations)
        self.lease = client.V1Lease(metadata=metadata, spec=body.spec)
        return self._copy()
