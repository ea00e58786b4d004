"""A cluster with hundreds of priorities has plans with more stages than an object may tell."""

import pytest

from bayplan.api.packing_plan import MAX_STAGES, PackingPlan
from bayplan.codec import plan_manifest
from bayplan.codec.stages import folded
from bayplan.plan import Certificate, Plan, Result, Stage, Verdict
from bayplan.policy import Order


def stages(count: int, *unproved: int) -> tuple[Stage, ...]:
    """Return so many stages, of which those that are named have a gap."""
    return tuple(
        Stage(name=f"place {at}", value=1, bound=2 + at if at in unproved else 1, seconds=0.5)
        for at in range(count)
    )


def test_as_many_as_there_is_room_for_are_told_one_by_one() -> None:
    """Nobody wants to read a summary of what fits."""
    told = stages(MAX_STAGES, 7)

    assert folded(told) == told


@pytest.mark.parametrize("count", [MAX_STAGES + 1, 265, 600])
@pytest.mark.parametrize(
    "unproved", [(), (0,), (246, 250), (247,), (248, 249), (252, 255), (256,), (3, 100, 252)]
)
def test_more_are_told_in_as_many_with_the_same_gap(count: int, unproved: tuple[int, ...]) -> None:
    """The API server would refuse every plan, or a reader believe another proof."""
    all_of_them = stages(count, *unproved)

    told = folded(all_of_them)

    def gap(some: tuple[Stage, ...]) -> float:
        return Certificate(order=Order.PLACE_FIRST, verdict=Verdict.IMPROVED, stages=some).gap

    assert len(told) <= MAX_STAGES
    assert gap(told) == gap(all_of_them)
    assert (told[0], told[-1]) == (all_of_them[0], all_of_them[-1])
    assert sum(stage.seconds for stage in told) == count * 0.5
    one_by_one = sum(stage in all_of_them for stage in told)
    assert one_by_one + sum(stage.bound for stage in told if "more" in stage.name) == count


def test_what_is_told_in_one_says_how_many_are_proved() -> None:
    """A proof that is not there would be claimed."""
    (told,) = [s for s in folded(stages(300, 10, 260, 261)) if "more" in s.name]

    assert (told.name, told.value, told.bound) == ("47 more stages: proved", 45, 47)


def test_a_plan_of_many_priorities_is_one_that_the_api_takes() -> None:
    """At 130 priorities no plan was ever published."""
    certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL, stages=stages(1000))
    result = Result(plan=Plan(certificate=certificate), digest="d", engine="hand")

    PackingPlan.model_validate(plan_manifest(result, sequence=1))
