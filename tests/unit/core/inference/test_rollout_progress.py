"""What the condition Progressing says of a rollout."""

from dataclasses import replace
from typing import Any

import pytest

from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment
from tests.scenes.rollout import (
    AWAY,
    LEFT,
    NEW,
    NOW_S,
    OLD,
    chat,
    hold,
    in_service,
    on,
    out,
    status_of,
    told,
    unit,
    units,
    waiting,
    yielding,
)

SURGE = waiting(NEW, 3)

NONE, ONE, TWO = (f"{n} of 3 units serve from the newest template" for n in range(3))


@pytest.mark.parametrize(
    ("of", "seen", "news", "want"),
    [
        pytest.param(
            NEW,
            units(OLD, 0, 1) + units(NEW, 2) + unit(NEW, 3, ready=False),
            {},
            (
                "True",
                "RollingOut",
                f"{ONE}; unit 3 is starting",
            ),
            id="it starts",
        ),
        pytest.param(
            chat("new", paused=True),
            units(OLD, 0, 1) + units(NEW, 2),
            {},
            (
                "False",
                "RolloutPaused",
                (f"{ONE}; set spec.rollout.paused to false to go on"),
            ),
            id="it is paused",
        ),
        pytest.param(
            chat("new", max_unavailable=0),
            units(OLD, 0, 1, 2) + SURGE,
            {"holds": (hold(SURGE[0]),)},
            (
                "False",
                "RolloutStuck",
                (
                    f"{NONE}; unit 3 waits for room:"
                    " chat-3-prefill-0: needs 8 GPUs; none is free; no older unit makes room,"
                    " because 3 serve and 3 must: add nodes, raise spec.rollout.maxUnavailable, or"
                    " lower spec.replicas to what fits"
                ),
            ),
            id="no room and none may go",
        ),
        pytest.param(
            NEW,
            units(OLD, 0, 1, 2) + unit(NEW, 3, ready=False, created_at=NOW_S - 600),
            {},
            (
                "False",
                "RolloutStuck",
                (
                    f"{NONE}; unit 3 has its places but does not"
                    " serve after 10 minutes: chat-3-decode-0 is not ready; look at its log, and"
                    " apply a template that works, or the one of before to go back"
                ),
            ),
            id="what was made does not serve",
        ),
        pytest.param(
            NEW,
            units(NEW, 0, 1) + waiting(NEW, 2),
            {"rolled_out": OLD.revision},
            (
                "True",
                "RollingOut",
                f"{TWO}; unit 2 waits to be placed",
            ),
            id="the last unit is still to come",
        ),
        pytest.param(
            NEW,
            units(NEW, 0, 1, 2),
            {"rolled_out": OLD.revision},
            ("False", "RolledOut", "every unit is there and runs the newest template"),
            id="it is done",
        ),
        pytest.param(
            NEW,
            on(LEFT, NEW, 0) + units(NEW, 1, 2) + SURGE,
            {"holds": (hold(SURGE[0]),)},
            (
                "True",
                "Relocating",
                (
                    "unit 0 is to leave cordoned or broken nodes (it is on left); unit 3 waits"
                    " for room: chat-3-prefill-0: needs 8 GPUs; none is free"
                ),
            ),
            id="a unit is to leave its node, and there is no room for another",
        ),
        pytest.param(
            replace(NEW, drain_s=60),
            in_service(0, 1, 2) + out(3, since=1),
            {},
            (
                "True",
                "Draining",
                "out of service until their requests are done, 60 s at most: unit 3",
            ),
            id="it drains",
        ),
        pytest.param(
            replace(NEW, drain_s=60),
            in_service(0, 1) + yielding(2, since=1),
            {},
            (
                "True",
                "Draining",
                (
                    "a plan makes chat-2-decode-0 and 1 more leave, out of service until their"
                    " requests are done, 60 s at most"
                ),
            ),
            id="a plan makes it leave",
        ),
        pytest.param(
            NEW,
            unit(NEW, 0, node=AWAY, ready=False) + units(NEW, 1, 2),
            {},
            (
                "True",
                "NodeNotReady",
                (
                    "nothing is heard of away, where unit 0 has 2 pods: unless it comes back,"
                    " Kubernetes evicts them when their tolerationSeconds are over (300 by"
                    " default), and they are made anew"
                ),
            ),
            id="its node is silent",
        ),
        pytest.param(
            NEW,
            unit(NEW, 0, node=AWAY, ready=False, terminating=True, ends_by=NOW_S)
            + units(NEW, 1, 2),
            {},
            (
                "True",
                "NodeNotReady",
                (
                    "nothing is heard of away, where unit 0 has 2 pods: evicted, and made anew 30 s"
                    " after the time they have to end"
                ),
            ),
            id="its pods were evicted from a silent node",
        ),
        pytest.param(
            NEW,
            unit(NEW, 0, node=AWAY, ready=False, created_at=NOW_S - 700) + units(OLD, 1, 2),
            {},
            (
                "True",
                "RollingOut",
                (
                    f"{NONE}; nothing is heard of away, where unit 0 has 2 pods: unless it comes"
                    " back, Kubernetes evicts them when their tolerationSeconds are over (300 by"
                    " default), and they are made anew"
                ),
            ),
            id="its node fell silent during a rollout",
        ),
        pytest.param(
            NEW,
            on(AWAY, NEW, 0) + units(NEW, 1, 2),
            {},
            ("False", "RolledOut", "every unit is there and runs the newest template"),
            id="its node is silent, and it serves as far as anybody knows",
        ),
    ],
)
def test_progressing_says_what_a_rollout_waits_for(
    of: Deployment, seen: list[Child], news: dict[str, Any], want: tuple[str, str, str]
) -> None:
    """In words that name the next action."""
    assert told(of, sorted(seen, key=lambda pod: pod.name), **news) == want


def test_a_unit_that_drains_is_the_reason_while_all_serve() -> None:
    """`kubectl get infd` said UnitsReady until it was gone."""
    status = status_of(NEW, in_service(0, 1, 2) + out(3, since=1))

    assert status["ready"] == "3/3"
    assert status["reason"] == "Draining"
