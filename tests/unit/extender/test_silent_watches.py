"""A watch of which nothing comes is no sign that nothing happens."""

import itertools

import pytest

from bayplan_extender.view import SILENT_S, View
from tests.scenes.reflector import Response, Server, error, listed


class Watched(Server):
    """Remembers up to when it knows of everything."""

    def __init__(self, *responses: Response) -> None:
        super().__init__(*responses)
        self.known: list[float] = []

    def is_current(self, at: float) -> None:
        """Take an instant."""
        self.known.append(at)


@pytest.fixture(autouse=True)
def _ten_seconds_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(step=10.0)
    monkeypatch.setattr("bayplan_extender.reflector.time.monotonic", lambda: next(ticks))
    monkeypatch.setattr("bayplan_extender.reflector._RETRY_S", 0.0)


def test_a_watch_ends_each_minute_or_counts_as_dead() -> None:
    """A planner planned for four minutes and a half from what a dead connection had told it."""
    server = Server(listed("a"), Response())

    server.run()

    watch = server.asked[-1]
    assert watch["timeout_seconds"] == 60
    assert watch["timeout_seconds"] < watch["_request_timeout"][1] <= 90


def test_the_end_of_a_watch_says_that_all_has_come() -> None:
    """A collection in which nothing ever happened has no bookmarks, and would count as stale."""
    server = Watched(listed("a"), Response(), Response())

    server.run()

    assert server.known[-1] > server.known[0] + 10
    assert server.known == sorted(server.known)


def test_a_watch_that_breaks_off_says_nothing() -> None:
    """What has happened on a dead connection is not known."""
    server = Watched(listed("a"), Response(error(500)), Response(status=429))

    server.run()

    assert len(set(server.known)) == 1


@pytest.mark.parametrize(("age_s", "stale"), [(SILENT_S - 1, ()), (SILENT_S, ("pods",))])
def test_what_is_known_is_stale_without_a_sign_for_two_minutes(
    age_s: float, stale: tuple[str, ...]
) -> None:
    """Nothing has failed as long as nobody looks."""
    view = View(clock=lambda: 1000.0 + age_s)
    view.current = {"pods": 1000.0, "nodes": 1000.0 + age_s}

    assert tuple(text.split()[0] for text in view.stale()) == stale
