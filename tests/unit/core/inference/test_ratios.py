"""A ratio that changes, or may: what a unit gets and gives next, and what the status says of it."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bayplan.api import names
from bayplan.api.pools import Role
from bayplan.cluster.keys import NodeName, PodKey
from bayplan.cluster.resources import Resources
from bayplan.inference import readiness, rollout
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment, Pool, Rollout
from bayplan.inference.rollout import Changes
from bayplan.inference.shapes import Shape
from bayplan.inference.tally import News, Tally
from bayplan.inference.units import Around, units_of
from bayplan.plan import Hold, Reason, Rejection
from tests.scenes.children import fill, unit_slots

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
NODE, CORDONED = NodeName("n1"), NodeName("cordoned")


def chat(
    prefill: int,
    decode: int,
    *,
    least: int | None = None,
    replicas: int = 1,
    **fields: Any,  # noqa: ANN401 - fields
) -> Deployment:
    """Return units of prefill pods with 4 GPUs and decode pods with 2.

    With `least` of each role in mode Auto, up to 8.
    """
    pools = tuple(
        Pool(
            name=role.lower(),
            role=role,
            count=count,
            bounds=None if least is None else (least, 8),
            template={"spec": {}},
            requests=Resources.of({"nvidia.com/gpu": gpus}),
        )
        for role, count, gpus in ((Role.PREFILL, prefill, 4), (Role.DECODE, decode, 2))
    )
    fields = {"replicas": replicas, "min_replicas": replicas, **fields}
    return Deployment(namespace="ns", name="chat", uid="u-chat", pools=pools, **fields)


def unit(of: Deployment, index: int = 0, **state: Any) -> list[Child]:  # noqa: ANN401 - fields
    """Return the pods of one unit as it is in the end, serving unless something else is said."""
    serves = {"node": NODE, "ready": True, "in_service": True, "switched": True}
    state = {**serves, "created_at": NOW_S - 60, **state}
    return [fill(slot, **state) for slot in unit_slots(of, index, of.revision)]


def more(before: Deployment, of: Deployment, index: int = 0, **state: Any) -> list[Child]:  # noqa: ANN401 - fields
    """Return the pods that a new ratio adds to a unit: waiting, unless something else is said."""
    known = {pod.name for pod in unit(before, index)}
    state = {"node": None, "ready": False, "shape": before.least, **state}
    return [pod for pod in unit(of, index, **state) if pod.name not in known]


def after(of: Deployment, seen: Iterable[Child], *, held: Iterable[Child] = ()) -> Changes:
    """Return what is done next."""
    around = Around(held={pod.uid for pod in held})
    return rollout.changes(of, seen, around=around, now=NOW_S)


def made(found: Changes) -> dict[str, int]:
    """Return the names of the pods that are made, with the size of the gang that they wait in."""
    return {slot.name: slot.unit_size for slot in found.create}


def gone(found: Changes) -> list[str]:
    """Return the names of the pods that are deleted, or drained first."""
    return [pod.name for pod in (*found.delete, *found.drain)]


def told(found: Changes) -> set[str]:
    """Return the shapes that are written on pods."""
    return {
        str(text)
        for each in found.patch
        for name, text in each.annotations.items()
        if name == names.ANNOTATION_SHAPE
    }


SMALL, LARGE = chat(1, 2), chat(1, 4)


def test_a_unit_grows_beside_what_runs_in_it() -> None:
    """All that is new is placed together, and nothing is stopped for it."""
    found = after(LARGE, unit(SMALL))

    assert made(found) == {"chat-0-decode-2": 5, "chat-0-decode-3": 5}
    assert {slot.shape for slot in found.create} == {SMALL.least}
    assert (found.delete, found.drain, found.patch) == ((), (), ())


def test_a_unit_has_come_to_a_ratio_when_all_of_it_serves() -> None:
    """Until then it is whole by the one before; a node alone serves nobody."""
    starting = [*unit(SMALL, unit_size=5), *more(SMALL, LARGE, node=NODE, in_service=True)]
    serving = [replace(pod, ready=True) for pod in starting]

    assert Tally.of(LARGE, starting).units.ready == 1
    assert not after(LARGE, starting).patch
    found = after(LARGE, serving)
    assert {each.pod.name for each in found.patch} == {pod.name for pod in serving}
    assert told(found) == {"decode=4,prefill=1"}


def test_a_unit_that_shrinks_drains_its_surplus_and_serves_on() -> None:
    """The highest numbers go; the unit is whole without them at once."""
    of = replace(SMALL, drain_s=60)
    seen = unit(LARGE)

    found = after(of, seen)

    assert [pod.name for pod in found.drain] == ["chat-0-decode-2", "chat-0-decode-3"]
    assert not found.delete
    assert told(found) == {"decode=2,prefill=1"}
    drained = [
        replace(pod, ready=False, in_service=False, drains_since=NOW_S - 10, shape=of.least)
        if pod in found.drain
        else replace(pod, shape=of.least)
        for pod in seen
    ]
    assert Tally.of(of, drained).units.ready == 1
    last = after(of, drained)
    assert [pod.name for pod in last.delete] == ["chat-0-decode-2", "chat-0-decode-3"]
    assert not last.serve


@pytest.mark.parametrize(
    ("states", "goes"),
    [
        pytest.param([{}, {}, {}, {"ready": False}], 3, id="not ready"),
        pytest.param([{}, {"ready": False}, {}, {}], 1, id="not ready, with a low number"),
        pytest.param([{}, {"node": CORDONED}, {}, {}], 1, id="on a node that is to be left"),
        pytest.param(
            [{}, {"node": CORDONED}, {"ready": False}, {}], 2, id="not ready, and another leaves"
        ),
        pytest.param(
            [{}, {"ready": False, "node": CORDONED}, {"ready": False}, {}], 1, id="both at once"
        ),
    ],
)
def test_what_does_not_serve_is_given_up_before_what_does(
    states: list[dict[str, Any]], goes: int
) -> None:
    """A replica that serves would go for one that may never do."""
    prefill, *decode = unit(LARGE)
    seen = [replace(pod, **state) for pod, state in zip(decode, states, strict=True)]
    around = Around(cordoned={CORDONED})

    found = rollout.changes(chat(1, 3), [prefill, *seen], around=around, now=NOW_S)

    assert gone(found) == [f"chat-0-decode-{goes}"]


def test_a_ratio_that_is_lowered_and_raised_again_leaves_no_old_sizes() -> None:
    """A label of a larger unit would make a later rollout take the unit for half of one."""
    lowered = [pod for pod in unit(LARGE) if pod.replica < 2]

    found = after(SMALL, lowered)

    assert told(found) == {"decode=2,prefill=1"}
    assert {each.labels[names.LABEL_GANG_MIN_COUNT] for each in found.patch} == {"3"}
    assert {each.pod.name for each in found.patch} == {pod.name for pod in lowered}


def test_what_is_lost_goes_before_what_is_new() -> None:
    """Together they might not fit, and the unit would be lost for the sake of the new ratio."""
    lost, *rest = unit(SMALL)
    waiting = more(SMALL, LARGE)

    found = after(LARGE, [*rest, *waiting], held=waiting)

    assert made(found) == {lost.name: 3}
    assert sorted(gone(found)) == ["chat-0-decode-2", "chat-0-decode-3"]


def test_a_ratio_that_is_taken_back_leaves_nothing_waiting() -> None:
    """Pods that nobody wants any more do not run yet."""
    waiting = more(SMALL, LARGE)

    found = after(SMALL, [*unit(SMALL), *waiting])

    assert set(gone(found)) == {pod.name for pod in waiting}
    assert not found.create


@pytest.mark.parametrize(
    ("unavailable", "units"),
    [
        pytest.param(0, 0, id="none may be missing"),
        pytest.param(1, 1, id="one"),
        pytest.param(2, 2, id="both"),
    ],
)
def test_replicas_go_for_others_in_as_many_units_as_may_be_missing(
    unavailable: int, units: int
) -> None:
    """Such a unit is out of service until its new replicas serve."""
    how = Rollout(max_unavailable=unavailable)
    before, of = chat(1, 4, replicas=2), chat(2, 2, replicas=2, rollout=how)
    waiting = [pod for index in (0, 1) for pod in more(before, of, index)]
    seen = [*unit(before, 0), *unit(before, 1), *waiting]

    undecided, found = after(of, seen), after(of, seen, held=waiting)

    assert not gone(undecided)
    assert len([name for name in gone(found) if "decode" in name]) == 2 * units
    assert len({each.pod.unit for each in found.patch if each.annotations}) == units


def test_replicas_do_not_go_for_others_that_need_more_than_they_leave() -> None:
    """The unit would not be whole again, and the old ratio gone."""
    before, of = chat(1, 4), chat(2, 3)
    waiting = more(before, of)

    assert not gone(after(of, [*unit(before), *waiting], held=waiting))


def test_room_is_asked_for_when_it_is_left() -> None:
    """A pod that waits in vain meanwhile would make the unit give up the rest."""
    before, of = chat(1, 4), chat(2, 2)
    here = unit(before, shape=of.least)
    leaving = [pod for pod in here if pod.replica < 2] + [
        replace(pod, terminating=True, ready=False) for pod in here if pod.replica >= 2
    ]

    assert not after(of, leaving).create
    assert list(made(after(of, leaving[:3]))) == ["chat-0-prefill-1"]


AUTO = chat(1, 4, least=1)


def test_an_automatic_unit_begins_with_its_least_and_asks_for_all_then() -> None:
    """As many units as possible are placed."""
    fresh, least = after(AUTO, []), [pod for pod in unit(AUTO) if pod.replica == 0]

    assert made(fresh) == {"chat-0-prefill-0": 2, "chat-0-decode-0": 2}
    assert made(after(AUTO, least)) == {f"chat-0-decode-{n}": 5 for n in (1, 2, 3)}
    assert Tally.of(AUTO, least).units.ready == 1


def test_an_automatic_unit_asks_for_one_replica_where_all_find_no_room() -> None:
    """What there is room for is taken, replica by replica."""
    pods = unit(AUTO)
    waiting = [replace(pod, node=None, gated=True, ready=False) for pod in pods if pod.replica]
    seen = [*(pod for pod in pods if not pod.replica), *waiting]

    found = after(AUTO, seen, held=waiting)

    assert set(gone(found)) == {"chat-0-decode-2", "chat-0-decode-3"}
    sizes = {each.pod.name: dict(each.labels) for each in found.patch}
    assert sizes == {"chat-0-decode-1": {names.LABEL_GANG_MIN_COUNT: "3"}}


def test_roles_grow_in_step() -> None:
    """The one with the least of its own comes first."""
    of = chat(2, 4, least=1)
    pods = unit(of)
    waiting = [replace(pod, node=None, gated=True, ready=False) for pod in pods if pod.replica]
    seen = [*(pod for pod in pods if not pod.replica), *waiting]

    kept = {pod.name for pod in waiting} - set(gone(after(of, seen, held=waiting)))

    assert kept == {"chat-0-decode-1"}


def test_units_go_before_replicas() -> None:
    """Room that a unit could begin with is not taken by one more replica of another."""
    of = replace(AUTO, replicas=2)
    least = [pod for pod in unit(of) if pod.replica == 0]
    second = [pod for pod in unit(of, 1, node=None, ready=False) if pod.replica == 0]
    extra = replace(unit(of)[-1], node=None, gated=True, ready=False)

    assert not after(of, [*least, *second]).create
    assert gone(after(of, [*least, extra, *second], held=second)) == [extra.name]


def test_a_unit_that_waits_in_vain_keeps_no_other_from_a_new_ratio() -> None:
    """But one that has lost a pod does: its room would be taken."""
    before, of = chat(1, 2, replicas=2), chat(1, 4, replicas=2)
    vain = unit(of, 1, node=None, ready=False)
    lost = [pod for pod in unit(before, 1) if pod.pool == "decode"]

    assert after(of, [*unit(before), *vain], held=vain).create
    assert not any("chat-0" in name for name in made(after(of, [*unit(before), *vain])))
    assert list(made(after(of, [*unit(before), *lost]))) == ["chat-1-prefill-0"]


def test_room_that_a_unit_gives_back_is_not_taken_by_one_more_replica() -> None:
    """It is for the unit itself, which waits as a whole then; nobody grows while it drains."""
    of = replace(AUTO, replicas=2, drain_s=60)
    least = [pod for pod in unit(of) if pod.replica == 0]
    half = [pod for pod in unit(of, 1) if pod.pool == "decode"]
    waiting = [pod for pod in unit(of, 1, node=None, ready=False) if pod.pool == "prefill"]

    found = after(of, [*least, *half, *waiting], held=waiting)

    assert {pod.name for pod in found.drain} == {pod.name for pod in half}
    assert not found.create


def auto(replicas: int, **fields: Any) -> Deployment:  # noqa: ANN401 - fields
    """Return units between bounds, that may finish their requests."""
    return replace(AUTO, **{"replicas": replicas, "drain_s": 60, **fields})


def sized(of: Deployment, index: int, decode: int, **state: Any) -> list[Child]:  # noqa: ANN401 - fields
    """Return a unit that serves with so many decode replicas."""
    pods = unit(of, index, unit_size=1 + decode, **state)
    return [pod for pod in pods if pod.pool == "prefill" or pod.replica < decode]


def vain(of: Deployment, index: int) -> list[Child]:
    """Return a unit that waits as a whole."""
    return sized(of, index, 1, node=None, ready=False)


def test_what_one_unit_has_beyond_the_least_goes_for_one_that_waits_in_vain() -> None:
    """It would keep the room, and the other one wait for good."""
    of = auto(2)
    grown, waiting = sized(of, 1, 4), vain(of, 0)

    found = after(of, [*waiting, *grown], held=waiting)

    assert {pod.name for pod in found.drain} == {f"chat-1-decode-{n}" for n in (1, 2, 3)}
    assert (found.create, found.delete) == ((), ())
    assert found.gives == {1}
    drained = [
        replace(pod, ready=False, in_service=False, drains_since=NOW_S - 10)
        if pod in found.drain
        else pod
        for pod in grown
    ]
    last = after(of, [*waiting, *drained], held=waiting)
    assert {pod.name for pod in last.delete} == {pod.name for pod in found.drain}
    assert Tally.of(of, drained).units.ready == 1
    assert after(of, [*waiting, *drained]).serve == tuple(
        pod for pod in drained if pod.drains_since
    ), "room was found, so nobody need go"


def test_the_unit_with_the_most_gives_and_one_for_each_that_waits() -> None:
    """Most units keep what they have; who has the least counts as one that gave."""
    of = auto(5)
    grown = [*sized(of, 1, 2), *sized(of, 2, 4), *sized(of, 3, 3)]
    first, second = vain(of, 0), vain(of, 4)

    assert after(of, [*first, *grown], held=first).gives == {2}
    both = [*first, *second, *grown]
    assert after(of, both, held=[*first, *second]).gives == {2, 3}
    least = [*sized(of, 1, 1), *sized(of, 2, 4), *sized(of, 3, 3)]
    assert after(of, [*first, *second, *least], held=[*first, *second]).gives == {2}


@pytest.mark.parametrize(
    ("ending", "gives"),
    [
        pytest.param({"ready": False, "drains_since": NOW_S - 1}, {1}, id="drains"),
        pytest.param({"ready": False, "terminating": True}, set(), id="ends"),
    ],
)
def test_nobody_begins_to_give_while_room_is_coming(
    ending: dict[str, Any], gives: set[int]
) -> None:
    """It may be enough. Who has begun goes on, or it would be put back and drained in turn."""
    of = auto(4)
    waiting = [*vain(of, 0), *vain(of, 3)]
    leaving = [replace(pod, **ending) if pod.replica else pod for pod in sized(of, 1, 2)]

    found = after(of, [*waiting, *leaving, *sized(of, 2, 4)], held=waiting)

    assert found.gives == gives


def _surge(of: Deployment) -> list[Child]:
    return [*sized(of, 0, 4), *vain(of, 1)]


def _moved(of: Deployment) -> list[Child]:
    return [*sized(of, 0, 4, broken=True), *vain(of, 1)]


def _partly(of: Deployment) -> list[Child]:
    half = [replace(pod, node=NODE) if pod.pool == "decode" else pod for pod in vain(of, 1)]
    return [*sized(of, 0, 4), *half]


@pytest.mark.parametrize(
    ("of", "seen"),
    [
        pytest.param(auto(1), _surge(auto(1)), id="to one more than is asked for"),
        pytest.param(auto(2), _moved(auto(2)), id="what broken hardware has"),
        pytest.param(auto(2), _partly(auto(2)), id="to one that may give back what it has"),
        pytest.param(
            chat(1, 4, replicas=2),
            [*unit(chat(1, 4), 0), *unit(chat(1, 4), 1, node=None, ready=False)],
            id="what a fixed ratio asks for",
        ),
        pytest.param(auto(2), [*sized(auto(2), 0, 1), *vain(auto(2), 1)], id="of its least"),
    ],
)
def test_nobody_gives(of: Deployment, seen: list[Child]) -> None:
    """Nothing would be won by it, or too much lost."""
    waiting = [pod for pod in seen if pod.node is None]

    found = after(of, seen, held=waiting)

    assert found.gives == set()
    assert not {pod.name for pod in (*found.drain, *found.delete)} & {
        pod.name for pod in seen if pod.unit == 0
    }


def test_an_automatic_unit_serves_on_without_what_it_need_not_have() -> None:
    """It loses a decode replica: the unit is whole, and gets it back as room comes."""
    rest = unit(AUTO)[:-1]

    found = after(AUTO, rest)

    assert made(found) == {"chat-0-decode-3": 5}
    assert Tally.of(AUTO, rest).units.ready == 1
    failed = [*rest, replace(unit(AUTO)[-1], ended=True, ready=False)]
    alone = after(AUTO, [pod for pod in failed if pod.pool == "decode"])
    assert made(alone) == {"chat-0-prefill-0": 4}


def test_min_replicas_reaches_pods_that_run() -> None:
    """Plans read it from them."""
    seen = unit(SMALL)

    raised = after(replace(SMALL, min_units=1), seen)
    lowered = after(SMALL, [replace(pod, min_units=1) for pod in seen])

    assert [dict(each.labels) for each in raised.patch] == [{names.LABEL_MIN_UNITS: "1"}] * 3
    assert [dict(each.labels) for each in lowered.patch] == [{names.LABEL_MIN_UNITS: None}] * 3


# Status.


def conditions(of: Deployment, seen: list[Child], held: list[Child]) -> dict[str, tuple[str, ...]]:
    """Return the conditions Progressing and RatioWithinBand, and the word for the column."""
    rejection = Rejection(reason=Reason.GANG_DOES_NOT_FIT, message="needs 2 GPUs; none is free")
    holds = tuple(
        Hold(pod=PodKey(namespace="ns", name=pod.name), uid=pod.uid, rejection=rejection)
        for pod in held
    )
    around = Around(held={pod.uid for pod in held})
    tally, news = Tally.of(of, seen, around), News(holds=holds)
    status = readiness.status(tally, after(of, seen, held=held), news, before={}, now=NOW)
    found = {c["type"]: (c["status"], c["reason"], c["message"]) for c in status["conditions"]}
    return {**found, "column": (status["reason"],)}


def test_the_status_says_why_a_unit_goes_on_as_it_was() -> None:
    """A ratio that has no effect must not look like one that has."""
    waiting = more(SMALL, LARGE)[:1]

    said = conditions(chat(1, 3), [*unit(SMALL), *waiting], waiting)

    assert said["Progressing"][:2] == ("False", "RatioWaits")
    assert said["Progressing"][2] == (
        "0 of 1 unit run 1:3; unit 0 runs 1:2: no room for more, chat-0-decode-2: needs 2 GPUs;"
        " none is free"
    )
    assert said["RatioWithinBand"] == (
        "False",
        "RatioChanging",
        "1 prefill and 2 decode replicas run; the ratio asked for is 1:3; unit 0 runs 1:2",
    )
    assert said["Ready"][:2] == ("True", "UnitsReady")
    assert said["column"] == ("RatioWaits",)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        pytest.param({}, "in unit 0 further replicas wait to be placed", id="waits"),
        pytest.param({"node": NODE}, "in unit 0 further replicas are starting", id="starts"),
    ],
)
def test_the_status_says_what_a_new_ratio_is_at(state: dict[str, Any], message: str) -> None:
    """Waiting helps."""
    said = conditions(LARGE, [*unit(SMALL), *more(SMALL, LARGE, **state)], [])

    assert said["Progressing"][:2] == ("True", "RatioChanging")
    assert said["Progressing"][2].endswith(message)


def test_an_automatic_ratio_is_kept_anywhere_within_its_bounds() -> None:
    """And is not when a role has less than its least."""
    rest = [pod for pod in unit(AUTO) if pod.replica < 2]

    kept, off = conditions(AUTO, rest, []), conditions(AUTO, rest[1:], [])

    assert kept["RatioWithinBand"] == (
        "True",
        "RatioKept",
        "1 prefill and 2 decode replicas run; the ratio asked for is 1:4 (1:1 to 8:8 are allowed)",
    )
    assert off["RatioWithinBand"][:2] == ("False", "RatioOff")


def test_the_status_says_who_gives_and_why_and_what_is_waited_for_then() -> None:
    """A unit that loses replicas for another one must not look like one that fails."""
    of = auto(2)
    waiting = vain(of, 0)

    gives = conditions(of, [*waiting, *sized(of, 1, 4)], waiting)
    gave = conditions(of, [*waiting, *sized(of, 1, 1)], waiting)

    why = "unit 0 waits for room: chat-0-decode-0: needs 2 GPUs; none is free (1 more pod for"
    assert gives["Progressing"][:2] == ("True", "RatioGivesRoom")
    assert gives["Progressing"][2].startswith(
        f"unit 1 runs 1:4, and what is beyond 1:1 is given up, because {why}"
    )
    assert gave["Progressing"][:2] == ("False", "RatioWaits")
    assert gave["Progressing"][2].startswith(
        f"0 of 2 units run 1:4; unit 1 runs 1:1: they do not grow while {why}"
    )


@pytest.mark.parametrize("text", ["", "decode", "decode=", "=2", "decode=-1", "a=1,b"])
def test_words_that_are_no_shape_say_nothing(text: str) -> None:
    """Anybody may write on a pod."""
    assert Shape.parse(text) == Shape()


def test_a_shape_is_read_as_it_is_written() -> None:
    """Zeros say nothing."""
    shape = Shape.of({"prefill": 1, "decode": 2, "long": 0})

    assert str(shape) == "decode=2,prefill=1"
    assert Shape.parse(str(shape)) == shape


def test_a_unit_that_a_plan_saw_in_part_is_not_without_room() -> None:
    """Seen: a plan saw half of a unit, and one that served went before the new one came.

    One of which no more pods can be made waits for the room of another.
    """
    waiting = unit(SMALL, node=None, ready=False)
    rejection = Rejection(reason=Reason.GANG_INCOMPLETE, message="2 of 3 pods exist")
    news = News(
        holds=tuple(
            Hold(pod=PodKey(namespace="ns", name=pod.name), uid=pod.uid, rejection=rejection)
            for pod in waiting[:2]
        )
    )

    assert not news.held(units_of(SMALL, waiting))
    assert news.held(units_of(SMALL, waiting[:2])) == {pod.uid for pod in waiting[:2]}
