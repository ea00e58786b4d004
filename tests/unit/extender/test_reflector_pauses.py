"""A server that is struggling is asked less and less often."""

import threading
from collections.abc import Callable, Sequence

import pytest
from structlog.testing import capture_logs
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import MaxRetryError, NewConnectionError

from tests.scenes.reflector import Response, Server, line, listed


class Pauses(threading.Event):
    """Remembers for how long it was waited for, and does not wait."""

    waited: Sequence[float] = ()

    def wait(self, timeout: float | None = None) -> bool:
        """Return at once."""
        Pauses.waited = (*Pauses.waited, round(timeout or 0.0, 1))
        return self.is_set()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pauses, "waited", ())
    monkeypatch.setattr("bayplan_extender.reflector.threading.Event", Pauses)
    monkeypatch.setattr("bayplan_extender.reflector.time.monotonic", lambda: 0.0)


def always(part: float) -> Callable[[float, float], float]:
    """Return a die that always shows the same part of its range."""
    return lambda low, high: low + part * (high - low)


def test_watches_that_end_at_once_begin_a_second_apart() -> None:
    """A server that is going down was asked hundreds of times a second."""
    Server(listed("a"), Response(), Response(), Response()).run()

    assert Pauses.waited == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("part", "pauses"), [(1.0, (2.0, 4.0, 8.0, 8.0)), (0.0, (1.5, 2.2, 3.4, 5.1))]
)
def test_refused_watches_are_tried_with_growing_pauses(
    monkeypatch: pytest.MonkeyPatch, part: float, pauses: Sequence[float]
) -> None:
    """Six collections of each replica would come back together each second."""
    monkeypatch.setattr("bayplan_extender.reflector.random.uniform", always(part))

    with capture_logs():
        Server(listed("a"), *[Response(status=429)] * 4).run()

    assert Pauses.waited == pytest.approx(pauses, abs=0.11)


def test_the_first_event_ends_the_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad minute would make every later reconnect slow."""
    monkeypatch.setattr("bayplan_extender.reflector.random.uniform", always(1.0))
    bad, good = Response(status=500), Response(line("ADDED", "b", 2))

    with capture_logs():
        Server(listed("a"), bad, bad, good, bad).run()

    assert Pauses.waited == (2.0, 4.0, 1.0, 2.0)


def test_a_watch_that_begins_and_says_nothing_does_not_end_the_growth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server may accept every watch, and reset it at once."""
    monkeypatch.setattr("bayplan_extender.reflector.random.uniform", always(1.0))
    reset = Response(error=ConnectionResetError())

    with capture_logs():
        Server(listed("a"), reset, reset, reset).run()

    assert Pauses.waited == (2.0, 4.0, 8.0)


def test_where_nobody_takes_the_connection_it_is_asked_for_each_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After an outage of the API server everybody saw the cluster eight seconds late."""
    monkeypatch.setattr("bayplan_extender.reflector.random.uniform", always(1.0))
    pool = HTTPConnectionPool("nowhere")
    refused = NewConnectionError(pool, "Connection refused")  # type: ignore[arg-type]
    away = Response(error=MaxRetryError(pool, "/", refused))
    bad = Response(status=503)

    with capture_logs():
        Server(listed("a"), bad, bad, away, away, bad, bad).run()

    assert Pauses.waited == (2.0, 4.0, 1.0, 1.0, 2.0, 4.0)
