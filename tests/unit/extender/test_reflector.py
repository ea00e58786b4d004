"""A sink is kept equal to a collection, whatever becomes of the watch."""

import itertools

import pytest
from structlog.testing import capture_logs
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from bayplan_extender import reflector
from tests.scenes.reflector import LOST, Response, Server, error, line, listed


@pytest.fixture(autouse=True)
def _without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "_RETRY_S", 0.0)


def test_events_follow_the_list_and_the_watch_goes_on_where_it_ended() -> None:
    """Changes between two watches would be lost, or bookmarks taken for objects."""
    server = Server(
        listed("a"),
        Response(line("ADDED", "b", 2), line("MODIFIED", "a", 3), line("BOOKMARK", "", 9)),
        Response(line("DELETED", "b", 10)),
    )

    assert server.run() == ["list a", "ADDED b", "MODIFIED a", "DELETED b"]
    assert [each.get("resource_version") for each in server.asked] == [None, "1", "9"]


def test_a_list_comes_in_pages_of_one_instant() -> None:
    """The pods of a large cluster would not fit into memory at once, as objects."""
    server = Server(
        listed("a", "b", version=7, rest="more"),
        listed("c", version=7, rest="even more"),
        listed("d", version=7),
        Response(line("ADDED", "e", 8)),
    )

    assert server.run() == ["list a b c d", "ADDED e"]
    assert [each.get("limit") for each in server.asked] == [500, 500, 500, None]
    assert [each.get("_continue") for each in server.asked] == [None, "more", "even more", None]
    assert server.asked[-1]["resource_version"] == "7"


def test_a_page_that_the_server_cannot_go_on_with_begins_the_list_anew() -> None:
    """Half a list would be taken for the whole: the rest of the pods would count as gone."""
    expired = Response(b'{"message": "the provided continue parameter is too old"}', status=410)
    expired.close()  # the library reads a list in full
    server = Server(
        listed("a", version=7, rest="more"), expired, listed("a", "b", version=9), Response()
    )

    with capture_logs() as events:
        assert server.run() == ["list a b"]
    assert (events, server.asked[-1]["resource_version"]) == ([], "9")


@pytest.mark.parametrize("size", [1, 7, 60, 61, 62, 10_000])
def test_events_may_be_cut_anywhere(size: int) -> None:
    """The network knows nothing of lines."""
    sent = b"\n".join([line("ADDED", "b", 2), line("ADDED", "c", 3), line("DELETED", "b", 4)])
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]

    seen = Server(listed(), Response(*pieces), Response()).run()

    assert seen == ["list ", "ADDED b", "ADDED c", "DELETED b"]


def test_half_an_event_is_none() -> None:
    """A server that is stopped in the middle would stop the watch for ever."""
    server = Server(
        listed(), Response(line("ADDED", "b", 2), line("ADDED", "c", 3)[:-9]), Response()
    )

    assert server.run() == ["list ", "ADDED b"]
    assert server.asked[-1]["resource_version"] == "2"


def test_after_a_gap_everything_is_listed_anew_without_a_word() -> None:
    """It is what happens to every watch that was away for some minutes."""
    server = Server(
        listed("a"), Response(error(410)), listed("b", version=5), Response(line("ADDED", "c", 6))
    )

    with capture_logs() as events:
        assert server.run() == ["list a", "list b", "ADDED c"]
    assert events == []


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(Response(line("ADDED", "b", 2), error(500)), id="an error in the watch"),
        pytest.param(Response(line("ADDED", "b", 2), error=ProtocolError("gone")), id="a reset"),
        pytest.param(Response(line("ADDED", "b", 2), error=ReadTimeoutError(*LOST)), id="silence"),
    ],
)
def test_after_an_error_the_watch_goes_on_where_it_was(bad: Response) -> None:
    """A whole list each time would be asked of a server that is struggling as it is."""
    server = Server(listed("a"), bad, Response(status=429), Response(line("ADDED", "c", 3)))

    with capture_logs() as events:
        assert server.run() == ["list a", "ADDED b", "ADDED c"]
    assert [each.get("resource_version") for each in server.asked] == [None, "1", "2", "2"]
    assert [event["event"] for event in events] == ["watch_failed"]


@pytest.mark.parametrize(
    "rubbish", [b"rubbish\n", b'{"type": "ADDED"'], ids=["no JSON", "and cut off"]
)
def test_after_what_cannot_be_read_everything_is_listed_anew(rubbish: bytes) -> None:
    """The same would come again and again, or an event be left out."""
    bad = Response(rubbish + b"\n")
    server = Server(listed("a"), bad, listed("b"), Response())

    with capture_logs() as events:
        assert server.run() == ["list a", "list b"]
    assert [event["event"] for event in events] == ["watch_failed"]


def test_while_nothing_else_works_everything_is_listed_once_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the server has against this one watch might never end."""
    ticks = itertools.count(step=10.0)
    monkeypatch.setattr("bayplan_extender.reflector.time.monotonic", lambda: next(ticks))
    server = Server(listed("a"), *[Response(status=500)] * 3, listed("b"), Response())

    with capture_logs():
        assert server.run() == ["list a", "list b"]


def test_for_how_long_and_why_nothing_is_heard_is_told_loudly_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody takes the right to read away, and plans are made from an old picture for ever."""
    ticks = itertools.count(step=10.0)
    monkeypatch.setattr("bayplan_extender.reflector.time.monotonic", lambda: next(ticks))
    refused = Response(b'{"message": "forbidden"}', status=403)
    server = Server(listed("a"), *[refused] * 6, listed("b"), Response(status=403))

    with capture_logs() as events:
        server.run()

    first, *others, last = server.failed
    assert first[1] == "403 because"
    assert {since for since, _ in others} == {first[0]}
    assert others[-1][1] == "403 forbidden"
    assert last[0] > first[0], "it was listed in between"
    levels = [event["log_level"] for event in events]
    assert levels == ["warning", "error", "error", "warning"], "once a minute"
