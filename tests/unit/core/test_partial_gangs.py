"""Half a gang gives its room back only where it is sure that it never was whole."""

from dataclasses import replace

import pytest

from bayplan import partial_gangs
from bayplan.api import names
from bayplan.cluster.keys import GangKey
from bayplan.cluster.pods import Disruption, Ended, Pod
from bayplan.partial_gangs import Member
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


def called(
    *members: Member,
    held: tuple[str, ...] = ("uid-b", "uid-c"),
    stuck: tuple[str, ...] = (),
) -> list[str]:
    """Return the names of those that are called back."""
    return [each.key.name for each in partial_gangs.partial_gang(members, held, stuck).pods]


def test_who_runs_without_the_rest_is_called_back() -> None:
    """Half a gang held its room for ever, of use to nobody."""
    assert called(runs("a"), waits("b"), waits("c")) == ["a"]
    assert called(runs("a"), runs("b", at=101), waits("c")) == ["a", "b"]
    # A gang that is made and released within one second.
    assert called(runs("a"), waits("b", since=100), waits("c", since=100)) == ["a"]


def pinned(name: str, **more: object) -> Member:
    """Return a member on its way to its node."""
    return runs(name, at=0, bound=False, disruption=Disruption.FIXED, **more)


def test_so_is_who_is_pinned_and_not_bound_yet() -> None:
    """It would be bound alone a moment later."""
    assert called(pinned("a"), waits("b"), waits("c")) == ["a"]


def test_who_cannot_be_bound_where_it_is_pinned_keeps_its_gang_from_becoming_whole() -> None:
    """It has no gate that a plan could hold it behind, and half of the gang ran on."""
    assert called(pinned("a"), runs("b"), runs("c"), stuck=("uid-a",)) == ["a", "b", "c"]
    assert called(pinned("a"), pinned("b"), runs("c"), stuck=("uid-a",)) == ["a", "b", "c"]
    # The plan has a place for one of them, but that does not make the gang whole.
    assert called(pinned("a"), runs("b"), waits("c"), held=(), stuck=("uid-a",)) == ["a", "b"]
    # Nobody but us lifts it where its deployment waits for it to be bound.
    ours = replace(OWNER, kind=names.KIND_DEPLOYMENT)  # type: ignore[type-var]
    of_ours = [pinned("a", owner=ours), runs("b", owner=ours), runs("c", owner=ours)]
    assert called(*of_ours, stuck=("uid-a",)) == ["a", "b", "c"]


def test_who_is_merely_queued_is_waited_for() -> None:
    """A slow scheduler would never get a gang whole: half of it would leave each time."""
    assert called(pinned("a"), runs("b"), runs("c"), held=()) == []
    assert called(pinned("a"), pinned("b"), runs("c"), stuck=("uid-x",)) == []
    # A plan gives up what is not bound for two minutes.
    assert called(pinned("a"), runs("b"), runs("c"), held=("uid-a",)) == []


def test_who_has_lost_its_gate_is_on_its_way() -> None:
    """The plan had no place for it, and somebody lifted its gate: kube-scheduler binds it next."""
    assert called(runs("a"), waits("b", waiting=False), waits("c", waiting=False)) == []
    assert called(runs("a"), waits("b"), waits("c", waiting=False)) == []
    assert called(runs("a"), waits("b"), waits("c", waiting=False, refused="no room")) == ["a"]


def test_a_gang_that_loses_a_pod_in_its_first_minute_was_never_whole() -> None:
    """What was pinned to a lost node came back behind its gate, and half of the gang ran on."""
    assert called(runs("a"), runs("b", at=101), waits("c", since=160)) == ["a", "b"]
    assert called(runs("a"), runs("b", at=101), waits("c", since=161)) == []
    late = pinned("c", created_at=161)
    assert called(runs("a"), runs("b"), late, stuck=("uid-c",)) == []


def test_it_is_half_since_the_first_has_its_node() -> None:
    """It would be half for longer the later somebody looks."""
    found = partial_gangs.partial_gang(
        [runs("a", at=105), runs("b", at=101), waits("c")], ("uid-c",)
    )

    assert found.since == 101
    nowhere = partial_gangs.partial_gang([pinned("a"), waits("b"), waits("c")], ("uid-b", "uid-c"))
    assert nowhere.since == 0


OWNER = pod("a").owner


@pytest.mark.parametrize(
    "members",
    [
        pytest.param((waits("a"), waits("b"), waits("c")), id="nobody runs"),
        pytest.param((runs("a"), runs("b"), runs("c")), id="it is whole"),
        pytest.param((runs("a"), runs("b"), waits("c", since=161)), id="it was whole once"),
        pytest.param(
            (runs("a"), runs("b", at=210), waits("c", since=165)),
            id="the rest may be a new pod in the place of a lost one",
        ),
        pytest.param((runs("a"), runs("b", owner=None), waits("c")), id="one would be lost"),
        pytest.param((runs("a"), runs("b"), waits("c"), waits("d")), id="one more than it needs"),
        pytest.param((runs("a"), waits("b")), id="one is still to be made"),
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


@pytest.mark.parametrize(
    ("owner", "goes"),
    [
        pytest.param(OWNER.uid if OWNER else "", [], id="this one was whole"),
        pytest.param("uid-last-run", ["a"], id="a CronJob has made the gang anew"),
    ],
)
def test_those_that_have_ended_well_count_for_their_own_run(owner: str, goes: list[str]) -> None:
    """With a fixed name of the gang, the last run's pods kept half of the next one for ever."""
    members = (runs("a"), waits("b"), waits("c"))
    ended = [Ended(gang=GANG, owner=owner)] * 3

    found = partial_gangs.partial_gang(members, ("uid-b", "uid-c"), ended=ended)

    assert [each.key.name for each in found.pods] == goes


def made(*members: Member) -> list[Pod]:
    """Return the pods."""
    return [member.pod for member in members]


def test_only_gangs_of_which_pods_are_missing_are_looked_at() -> None:
    """Each look is a request, and hundreds of gangs may wait whole."""
    whole = made(waits("a"), waits("b"), waits("c"))

    assert partial_gangs.suspects(whole, {"uid-b", "uid-c"}) == frozenset()
    assert partial_gangs.suspects(whole[1:], {"uid-b", "uid-c"}) == {GANG}
    assert partial_gangs.suspects(whole[1:], ()) == frozenset()
    on_its_way = made(pinned("a"))
    assert partial_gangs.suspects([*on_its_way, *whole[1:]], {"uid-b"}) == {GANG}
    assert partial_gangs.suspects(on_its_way, (), {"uid-a"}) == {GANG}
    assert partial_gangs.suspects(on_its_way, {"uid-a"}) == frozenset()
