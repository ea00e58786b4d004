"""The same kind of news about an object is told again only after a while."""

from concurrent.futures import ThreadPoolExecutor

from bayplan_operator.cluster.damper import AGAIN_S, Damper


def test_reasons_that_take_turns_are_news_once_each() -> None:
    """A pod for which two reasons took turns got an event each time."""
    damper = Damper(lambda: 0.0)

    told = [damper.is_news("a", reason) for reason in ("NoRoom", "Outranked") * 2]

    assert told == [True, True, False, False]
    assert damper.is_news("b", "NoRoom"), "another object"


def test_what_was_told_long_ago_is_news_again_and_what_is_asked_meanwhile_does_not_count() -> None:
    """Who waits for hours would have no event left after one: Kubernetes drops them."""
    now = [0.0]
    damper = Damper(lambda: now[0])
    told = []

    for at in (0.0, AGAIN_S - 1, AGAIN_S):
        now[0] = at
        told.append(damper.is_news("a", "NoRoom"))

    assert told == [True, False, True]


def test_what_is_old_is_forgotten() -> None:
    """Pods come and go for weeks."""
    now = [0.0]
    damper = Damper(lambda: now[0])
    for n in range(100):
        now[0] = n * AGAIN_S / 10
        damper.is_news(f"pod-{n}", "NoRoom")

    assert len(damper._told_at) == 10  # noqa: SLF001 - what it keeps


def test_of_threads_that_ask_at_once_one_tells() -> None:
    """Pods are told by several threads."""
    damper = Damper(lambda: 0.0)
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda n: damper.is_news(f"pod-{n % 50}", "NoRoom"), range(2000)))

    assert sum(told) == 50
