"""Who leads: the lease is taken when it has lapsed, and never while it counts."""

from collections.abc import Callable
from threading import Event, Semaphore
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from structlog.testing import capture_logs
from urllib3.exceptions import NewConnectionError, ReadTimeoutError

from bayplan_extender.planner.lease import DURATION_S, LEAD_S, lead
from tests.scenes.lease import Server

#: Seconds after which what has not happened will not.
DEADLINE_S = 60.0


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


def test_an_api_server_that_takes_seconds_to_answer_lets_somebody_lead() -> None:
    """With more than one for each write nobody led, and all gates were lifted without a plan."""
    server = Server()
    a, b = server.of("a"), server.of("b")

    for _ in range(20):
        server.answers_after_s = LEAD_S / 3 - 0.1
        assert a.hold()
        assert a.is_ours()
        server.answers_after_s = 0.0
        assert not b.hold()


def test_a_renewal_counts_from_when_it_was_asked_for() -> None:
    """Who counts from the answer leads on when others may have begun."""
    server = Server()
    server.answers_after_s = 4.0
    a = server.of("a")
    asked_at = server.now
    assert a.hold(), "read, and created"
    assert server.now == asked_at + 8.0

    server.now = asked_at + 4.0 + LEAD_S - 0.1
    assert a.is_ours()
    server.now += 0.2
    assert not a.is_ours()


def test_an_answer_that_comes_too_late_is_no_lead() -> None:
    """A process that was stopped for a while would go on where it was."""
    server = Server()
    a = server.of("a")
    keep = server._keep  # noqa: SLF001 - to stop the time

    def late(body: Any) -> Any:  # noqa: ANN401 - the library's Lease
        kept = keep(body)
        server.now += LEAD_S + 1
        return kept

    server._keep = late  # type: ignore[method-assign] # noqa: SLF001
    assert a.hold()
    assert not a.is_ours()


def test_what_was_held_counts_on_while_nobody_answers() -> None:
    """Each answer that is lost would end a pass; and then another one takes over in good time."""
    server = Server()
    a, b = server.of("a"), server.of("b")
    assert a.hold()
    assert not b.hold()
    held_at, server.answers_after_s = server.now, 1e6

    while a.is_ours():
        with pytest.raises(ReadTimeoutError):
            a.hold()

    assert server.now <= held_at + LEAD_S + 0.2, "the last try ended in time"
    server.answers_after_s = 0.0
    assert not b.hold(), "the tries that were not answered may have renewed it"


def test_who_finds_another_one_leading_leads_no_longer() -> None:
    """Somebody may have given the lease away by hand."""
    server = Server()
    a = server.of("a")
    assert a.hold()
    server.lease = None
    assert server.of("b").hold()

    assert not a.hold()
    assert not a.is_ours()


def test_what_the_server_refuses_is_no_answer() -> None:
    """Whoever may not read the lease does not know who leads."""
    server = Server()
    server.read_namespaced_lease = lambda *_, **__: _refuse()  # type: ignore[method-assign]
    with pytest.raises(ApiException):
        server.of("a").hold()


def test_a_server_that_nobody_reaches_is_asked_every_two_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eight seconds after it was back nobody planned yet; one that struggles has its pauses."""
    server, pauses = Server(), list[float]()
    read = server.read_namespaced_lease
    nobody = NewConnectionError(None, "refused")  # type: ignore[arg-type]
    slow = ReadTimeoutError(None, "/", "no answer")  # type: ignore[arg-type]
    answers = iter([nobody, nobody, slow, slow, slow, nobody])

    def answer(*_: str, _request_timeout: float) -> Any:  # noqa: ANN401 - as the library
        for error in answers:
            raise error
        return read(_request_timeout=_request_timeout)

    server.read_namespaced_lease = answer  # type: ignore[method-assign]
    monkeypatch.setattr("bayplan_extender.planner.lease.time.sleep", pauses.append)

    with capture_logs() as events:
        lead(server.of("a"), lambda: None, lambda: None)

    assert pauses == [2, 2, 4, 8, 8, 2]
    assert [event["event"] for event in events].count("lease_not_reached") == 1


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a leader renew its lease at once, again and again."""
    monkeypatch.setattr("bayplan_extender.planner.lease.RETRY_S", 0.01)


def led(server: Server, *works: Callable[[], None], stop: Callable[[], None]) -> list[str]:
    """Lead as "a", with another work each time; return why it ended each time."""
    turns = iter(works)

    def work() -> None:
        next(turns)()

    with capture_logs() as events:
        lead(server.of("a"), work, stop)
    assert [event["event"] for event in events].count("leading") == len(works)
    return [event["error"] for event in events if event["event"] == "leadership_lost"]


def not_stopped() -> None:
    """Fail: nobody is to be stopped."""
    raise AssertionError


@pytest.mark.usefixtures("busy")
def test_a_leader_renews_its_lease_while_it_plans() -> None:
    """Every pass would be cut off after twelve seconds."""
    server, renewed, keep = Server(), Semaphore(0), Server._keep  # noqa: SLF001

    def kept(body: Any) -> Any:  # noqa: ANN401 - as the library
        server.now += LEAD_S / 2
        renewed.release()
        return keep(server, body)

    server._keep = kept  # type: ignore[method-assign] # noqa: SLF001

    def work() -> None:
        assert all(renewed.acquire(timeout=DEADLINE_S) for _ in range(5))

    assert led(server, work, stop=not_stopped) == ["planning has ended"]


@pytest.mark.usefixtures("busy")
def test_a_planner_that_fails_leads_no_longer() -> None:
    """The process would go on, hold the lease, and plan nothing."""

    def fails() -> None:
        raise RuntimeError

    assert led(Server(), fails, stop=not_stopped) == ["planning has ended"]


@pytest.mark.usefixtures("busy")
def test_who_loses_the_lease_stops_and_leads_again_when_it_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two would plan at once, or nobody after the other one has ended."""
    server, stopped = Server(), Event()
    pauses = list[float]()

    def pause(for_s: float) -> None:
        pauses.append(for_s)
        server.now += DURATION_S

    monkeypatch.setattr("bayplan_extender.planner.lease.time.sleep", pause)

    def work() -> None:
        server.lease = None
        assert server.of("b").hold()
        assert stopped.wait(DEADLINE_S)

    told = led(server, work, lambda: None, stop=stopped.set)

    assert told == ["another planner has it", "planning has ended"]
    assert pauses, "it waits until the lease of the other one has lapsed"
    assert server.lease.spec.holder_identity == "a"


@pytest.mark.usefixtures("busy")
def test_who_gets_no_answer_stops_before_another_one_may_lead() -> None:
    """It would plan on beside the next one."""
    server, stopped = Server(), Event()

    def work() -> None:
        server.answers_after_s = 1e6
        assert stopped.wait(DEADLINE_S)

    def stop() -> None:
        assert server.now < DURATION_S
        server.answers_after_s = 0.0
        stopped.set()

    lost, ended = led(server, work, lambda: None, stop=stop)

    assert lost.startswith("not renewed for 12 s: ")
    assert "no answer" in lost
    assert ended == "planning has ended"


def _refuse() -> None:
    raise ApiException(status=403, reason="Forbidden")
