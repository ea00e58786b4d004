"""What would happen if pods came, beside others that wait or may be moved."""

from dataclasses import replace

from bayplan.policy import Policy
from bayplan.whatif import forecast
from tests.builders import node, pod, snapshot

POLICY = Policy()


def test_who_waits_already_goes_first_and_nobody_is_promised_its_room() -> None:
    """A newcomer that no plan would place was said to fit now."""
    waits = replace(pod("a", gpus=4), created_at=100)
    newcomer = replace(pod("n", gpus=4), created_at=200)

    told = forecast(snapshot(node("n1", gpus=4), waits), [newcomer], POLICY, clock=lambda: 0.0)

    assert (told.placed, told.copies) == (0, None)


def test_room_that_a_more_urgent_pod_gets_by_moves_is_not_promised() -> None:
    """It was free only as long as nobody was moved for the other one."""
    running = [pod(name, gpus=4, on=f"n{name}") for name in "12"]
    urgent = pod("urgent", gpus=8, priority=10)
    world = snapshot(node("n1", gpus=8), node("n2", gpus=8), *running, urgent)

    told = forecast(world, [pod("n", gpus=4)], POLICY, clock=lambda: 0.0)

    assert (told.placed, told.fits) == (0, False)


def test_a_more_urgent_pod_that_fits_nowhere_keeps_nobody_out() -> None:
    """Its plan disturbs nobody, so how many more fit is told all the same."""
    world = snapshot(node("n1", gpus=8), pod("urgent", gpus=16, priority=10))

    told = forecast(world, [pod("n", gpus=2)], POLICY, clock=lambda: 0.0)

    assert (told.quiet, told.copies) == (True, 3)


def test_how_many_were_asked_for_is_told_where_more_may_fit() -> None:
    """20 was said of room for 43, because no more were tried."""
    newcomers = [pod(f"n{i}", gpus=1) for i in range(5000)]
    world = snapshot(*(node(f"n{i}", gpus=500, pods=5000) for i in range(60)))

    told = forecast(world, newcomers, POLICY, clock=lambda: 0.0)

    assert (told.copies, told.asked) == (3, 3)
