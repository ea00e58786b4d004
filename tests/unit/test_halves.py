"""Half a gang gives its room back only where it is sure that it never was whole."""

from dataclasses import replace

import pytest

from bayplan import halves
from bayplan.api import names
from bayplan.cluster.keys import GangKey
from bayplan.cluster.snapshot import Disruption, Pod
from bayplan.halves import Member
from tests.builders import pod

GANG = GangKey(namespace="default", name="g")


def runs(name: str, *, at: int = 100, **more: object) -> Member:
    """Return a member that a plan has placed."""
    made = pod(name, on="n1", gang="g", min_count=3)
    return Member(pod=replace(made, **more), bound_at=at, planned=True)  # type: ignore[arg-type]


def waits(name: str, *, since: int = 90, **more: object) -> Member:
    """Return a member behind its gate."""
    made = replace(pod(name, gang="g", min_count=3), created_at=since)
    return Member(pod=replace(made, **more))  # type: ignore[arg-type]


def called(*members: Member, held: tuple[str, ...] = ("uid-b", "uid-c")) -> list[str]:
    """Return the names of those that are called back."""
    return [each.key.name for each in halves.half(members, held)]


def test_who_runs_without_the_rest_is_called_back() -> None:
    """Half a gang held its room for ever, of use to nobody."""
    assert called(runs("a"), waits("b"), waits("c")) == ["a"]
    assert called(runs("a"), runs("b", at=101), waits("c")) == ["a", "b"]
    # A gang that is made and released within one second.
    assert called(runs("a"), waits("b", since=100), waits("c", since=100)) == ["a"]


def test_so_is_who_is_pinned_and_not_bound_yet() -> None:
    """It would be bound alone a moment later."""
    pinned = runs("a", at=0, bound=False, disruption=Disruption.FIXED)

    assert called(pinned, waits("b"), waits("c")) == ["a"]


OWNER = pod("a").owner


@pytest.mark.parametrize(
    "members",
    [
        pytest.param((waits("a"), waits("b"), waits("c")), id="nobody runs"),
        pytest.param((runs("a"), runs("b"), runs("c")), id="it is whole"),
        pytest.param((runs("a"), runs("b"), waits("c", since=101)), id="it was whole once"),
        pytest.param(
            (runs("a"), runs("b", at=110), waits("c", since=105)),
            id="the rest may be a new pod in the place of a lost one",
        ),
        pytest.param((runs("a"), runs("b", owner=None), waits("c")), id="one would be lost"),
        pytest.param((runs("a"), runs("b"), waits("c"), waits("d")), id="one more than it needs"),
        pytest.param((runs("a"), waits("b")), id="one is still to be made"),
        pytest.param((runs("a"), Member(pod=None), waits("c")), id="one has ended"),
        pytest.param((runs("a"), waits("b"), waits("x")), id="the plan has a place for one"),
        pytest.param((runs("a"), runs("b", terminating=True), waits("c")), id="one is going"),
        pytest.param((runs("a", owner=None), waits("b"), waits("c")), id="it would be lost"),
        pytest.param(
            (runs("a", disruption=Disruption.FIXED), waits("b"), waits("c")),
            id="it is not to be disturbed",
        ),
        pytest.param(
            (runs("a", owner=replace(OWNER, kind=names.KIND_DEPLOYMENT)), waits("b"), waits("c")),  # type: ignore[type-var]
            id="its deployment sees to it",
        ),
        pytest.param(
            (replace(runs("a"), planned=False), waits("b"), waits("c")), id="no plan placed it"
        ),
    ],
)
def test_all_others_stay(members: tuple[Member, ...]) -> None:
    """What somebody runs would be killed for a rule of ours."""
    assert called(*members) == []


def made(*members: Member) -> list[Pod]:
    """Return the pods."""
    return [member.pod for member in members if member.pod is not None]


def test_only_gangs_of_which_pods_are_missing_are_looked_at() -> None:
    """Each look is a request, and hundreds of gangs may wait whole."""
    whole = made(waits("a"), waits("b"), waits("c"))

    assert halves.suspects(whole, {"uid-b", "uid-c"}) == frozenset()
    assert halves.suspects(whole[1:], {"uid-b", "uid-c"}) == {GANG}
    assert halves.suspects(whole[1:], ()) == frozenset()
    pinned = made(runs("a", bound=False))
    assert halves.suspects([*pinned, *whole[1:]], {"uid-b"}) == {GANG}
