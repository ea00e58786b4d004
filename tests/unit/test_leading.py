"""Who leads: the lease is taken when it has lapsed, and never while it counts."""

from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from bayplan_extender.planner.lease import DURATION_S, Lease


class Server:
    """The one Lease of an API server, and the time; stands in for the client."""

    def __init__(self) -> None:
        self.lease: Any = None
        self.now = 0.0
        self.overtaken_by = ""

    def of(self, identity: str) -> Lease:
        """Return the lease as a planner sees it."""
        return Lease(self, "ns", identity, clock=lambda: self.now)  # type: ignore[arg-type]

    def read_namespaced_lease(self, *_: str, **__: float) -> Any:  # noqa: ANN401 - as the library
        """Return a copy."""
        if self.lease is None:
            raise ApiException(status=404, reason="Not Found")
        spec, metadata = self.lease.spec, self.lease.metadata
        return client.V1Lease(
            metadata=client.V1ObjectMeta(resource_version=metadata.resource_version),
            spec=spec and client.V1LeaseSpec(**spec.to_dict()),
        )

    def create_namespaced_lease(self, _: str, body: client.V1Lease, **__: float) -> None:
        """Keep it, unless there is one."""
        if self.lease is not None or self.overtaken_by:
            self._overtake()
        self._keep(body)

    def replace_namespaced_lease(self, _: str, __: str, body: Any, **___: float) -> None:  # noqa: ANN401
        """Keep it, if it is still what was read."""
        if self.overtaken_by:
            self._overtake()
        if body.metadata.resource_version != self.lease.metadata.resource_version:
            raise ApiException(status=409, reason="Conflict")
        self._keep(body)

    def _overtake(self) -> None:
        identity, self.overtaken_by = self.overtaken_by, ""
        if identity:
            assert self.of(identity).hold()
        raise ApiException(status=409, reason="Conflict")

    def _keep(self, body: Any) -> None:  # noqa: ANN401 - the library's Lease
        version = f"{self.now} {body.spec.holder_identity}"
        body.spec.renew_time = str(self.now)
        metadata = client.V1ObjectMeta(resource_version=version)
        self.lease = client.V1Lease(metadata=metadata, spec=body.spec)


def test_a_lease_that_is_free_is_taken_and_kept_from_others() -> None:
    """Two planners would publish plans that overtake each other."""
    server = Server()
    a, b = server.of("a"), server.of("b")
    assert a.hold()

    for _ in range(10):
        server.now += DURATION_S - 1
        assert not b.hold(), "it was renewed"
        assert a.hold()

    assert server.lease.spec.holder_identity == "a"


def test_a_lease_that_is_not_renewed_lapses() -> None:
    """By the clock of who waits, from when it saw the last change."""
    server = Server()
    server.of("a").hold()
    server.now += 100
    b = server.of("b")
    assert not b.hold(), "b sees it for the first time"
    server.now += DURATION_S - 1
    assert not b.hold()

    server.now += 1

    assert b.hold()
    assert server.lease.spec.holder_identity == "b"


def test_who_is_started_again_under_its_name_leads_on_at_once() -> None:
    """Nobody would plan for as long as a lease counts."""
    server = Server()
    assert server.of("a").hold()
    assert server.of("a").hold()


@pytest.mark.parametrize("spec", [None, client.V1LeaseSpec(holder_identity="")])
def test_a_lease_that_somebody_has_given_up_is_taken(spec: client.V1LeaseSpec | None) -> None:
    """Or that came with a manifest."""
    server = Server()
    server.lease = client.V1Lease(metadata=client.V1ObjectMeta(resource_version="1"), spec=spec)
    assert server.of("a").hold()


@pytest.mark.parametrize("there_is_one", [False, True])
def test_of_two_who_ask_at_the_same_moment_one_leads(there_is_one: bool) -> None:  # noqa: FBT001
    """The API server says who was quicker."""
    server = Server()
    if there_is_one:
        nobody = client.V1LeaseSpec(holder_identity="")
        metadata = client.V1ObjectMeta(resource_version="1")
        server.lease = client.V1Lease(metadata=metadata, spec=nobody)
    server.overtaken_by = "b"

    assert not server.of("a").hold()

    assert server.lease.spec.holder_identity == "b"


def test_what_the_server_refuses_is_no_answer() -> None:
    """Whoever may not read the lease does not know who leads."""
    server = Server()
    server.read_namespaced_lease = lambda *_, **__: _refuse()  # type: ignore[method-assign]
    with pytest.raises(ApiException):
        server.of("a").hold()


def _refuse() -> None:
    raise ApiException(status=403, reason="Forbidden")
