"""Rollouts, scaling and repair, case by case: which pods are made and deleted next."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bayplan.api.pools import Role
from bayplan.inference import readiness, rollout
from bayplan.inference.children import Child, Deployment, Pool, Rollout, unit_slots
from bayplan.inference.parts import Around
from bayplan.inference.rollout import Changes
from bayplan.inference.tally import News, Tally
from bayplan.keys import NodeName, PodKey
from bayplan.plan import Hold, Reason, Rejection
from bayplan.resources import Resources

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
NODE = NodeName("n1")


def chat(version: str, *, replicas: int = 3, **how: Any) -> Deployment:  # noqa: ANN401 - fields
    """Return a deployment of units of one prefill and one decode pod."""
    pools = tuple(
        Pool(name=role.lower(), role=role, count=1, template={"spec": version}, requests=_NONE)
        for role in (Role.PREFILL, Role.DECODE)
    )
    return Deployment(
        namespace="ns",
        name="chat",
        uid="u-chat",
        replicas=replicas,
        min_replicas=replicas,
        pools=pools,
        rollout=Rollout(**how),
    )


_NONE = Resources()


def unit(of: Deployment, index: int, **state: Any) -> list[Child]:  # noqa: ANN401 - fields of Child
    """Return the pods of one unit, serving unless something else is said."""
    state = {"node": NODE, "ready": True, "created_at": NOW_S - 60, **state}
    return [
        Child(
            **{
                "name": slot.name,
                "uid": f"{slot.name}-{of.revision}",
                "owner_uid": "u-chat",
                "pool": slot.pool.name,
                "unit": index,
                "revision": slot.revision,
                "unit_size": slot.unit_size,
                "shape": slot.shape,
                "replica": slot.index,
                "represents": slot.represents,
                "gated": state["node"] is None,
                **state,
            }
        )
        for slot in unit_slots(of, index, of.revision)
    ]


def waiting(of: Deployment, index: int) -> list[Child]:
    """Return the gated pods of one unit."""
    return unit(of, index, node=None, ready=False)


def units(of: Deployment, *indices: int) -> list[Child]:
    """Return units that serve."""
    return [pod for index in indices for pod in unit(of, index)]


def uids(pods: Iterable[Child]) -> set[str]:
    """Return the uids of pods."""
    return {pod.uid for pod in pods}


def told(
    of: Deployment,
    seen: list[Child],
    **state: Any,  # noqa: ANN401 - fields of News
) -> tuple[str, str, str]:
    """Return the condition Progressing."""
    rolled_out = state.pop("rolled_out", "")
    news = News(**state)
    held = {hold.uid for hold in news.holds}
    around = Around(held=held, cordoned={NodeName("left")})
    found = rollout.changes(of, seen, around=around, now=NOW_S)
    tally = Tally.of(of, seen, around)
    status = readiness.status(tally, found, news, before={"revision": rolled_out}, now=NOW)
    condition = next(c for c in status["conditions"] if c["type"] == "Progressing")
    return condition["status"], condition["reason"], condition["message"]


def hold(pod: Child) -> Hold:
    """Return what a plan says about a pod that does not fit."""
    rejection = Rejection(reason=Reason.GANG_DOES_NOT_FIT, message="needs 8 GPUs; none is free")
    return Hold(pod=PodKey(namespace="ns", name=pod.name), uid=pod.uid, rejection=rejection)


OLD, NEW = chat("old"), chat("new")


def going(found: Changes) -> set[int]:
    """Return the units of which pods are deleted."""
    return {pod.unit for pod in found.delete}


def coming(found: Changes) -> set[int]:
    """Return the units of which pods are made."""
    return {slot.unit for slot in found.create}


@pytest.mark.parametrize(
    ("how", "seen", "held", "goes", "comes"),
    [
        pytest.param(
            {}, units(OLD, 0, 1, 2), [], set(), {3}, id="a surge unit is tried before any goes"
        ),
        pytest.param(
            {},
            units(OLD, 0, 1, 2) + waiting(NEW, 3),
            [],
            set(),
            set(),
            id="nobody goes while the plan has not said whether it fits",
        ),
        pytest.param(
            {},
            units(OLD, 0, 1, 2) + waiting(NEW, 3),
            waiting(NEW, 3),
            {2},
            {4},
            id="where it does not fit, an old unit goes first",
        ),
        pytest.param(
            {"max_unavailable": 0},
            units(OLD, 0, 1, 2) + waiting(NEW, 3),
            waiting(NEW, 3),
            set(),
            set(),
            id="unless none may be missing",
        ),
        pytest.param(
            {},
            units(OLD, 0, 1, 2) + unit(NEW, 3, ready=False),
            [],
            set(),
            set(),
            id="nobody goes while the surge unit starts",
        ),
        pytest.param(
            {},
            units(OLD, 0, 1, 2) + units(NEW, 3),
            [],
            {2},
            {4},
            id="a unit that serves makes one superfluous",
        ),
        pytest.param(
            {},
            units(OLD, 0, 1) + unit(OLD, 2, ready=False, terminating=True) + waiting(NEW, 3),
            waiting(NEW, 3),
            set(),
            {4},
            id="the next one is made ahead, and no other goes below the floor",
        ),
        pytest.param(
            {"max_surge": 0}, units(OLD, 0, 1, 2), [], {2}, {3}, id="without surge one goes at once"
        ),
        pytest.param(
            {"max_surge": 0, "max_unavailable": 2},
            units(OLD, 0, 1, 2),
            [],
            {1, 2},
            {3, 4},
            id="or two, where two may be missing",
        ),
        pytest.param(
            {"max_surge": 0},
            units(OLD, 0, 1) + unit(NEW, 3, ready=False),
            [],
            set(),
            set(),
            id="and then none until its successor serves",
        ),
        pytest.param(
            {"max_surge": 0},
            units(OLD, 0, 2) + unit(OLD, 1, ready=False),
            [],
            {1},
            {3},
            id="a unit that does not serve goes before any that does",
        ),
        pytest.param(
            {"max_surge": 0},
            units(OLD, 0, 1, 2)[:-1],
            [],
            {2},
            {3},
            id="a unit that has lost a pod goes whole: its template is gone",
        ),
        pytest.param(
            {},
            units(NEW, 0) + waiting(OLD, 1) + waiting(OLD, 2),
            [],
            {1, 2},
            set(),
            id="units that never ran go at once, and come again under their names",
        ),
        pytest.param(
            {"paused": True}, units(OLD, 0, 1, 2), [], set(), set(), id="paused, all stay"
        ),
        pytest.param(
            {"paused": True},
            units(OLD, 0, 1),
            [],
            set(),
            {2},
            id="paused, a unit that is added is of the newest template",
        ),
        pytest.param(
            {"max_surge": 0},
            units(OLD, 0, 1, 2)[:-1] + unit(OLD, 2, terminating=True, ready=False)[-1:],
            [],
            {2},
            {3},
            id="what is left of a unit that is going goes too",
        ),
    ],
)
def test_rollout(
    how: dict[str, Any], seen: list[Child], held: list[Child], goes: set[int], comes: set[int]
) -> None:
    """Three units are asked for, of the newest template."""
    found = rollout.changes(chat("new", **how), seen, around=Around(held=uids(held)), now=NOW_S)

    assert (going(found), coming(found)) == (goes, comes)


@pytest.mark.parametrize(
    ("replicas", "seen", "goes"),
    [
        pytest.param(1, units(NEW, 0, 1, 2), {1, 2}, id="the highest of those alike"),
        pytest.param(2, units(NEW, 0, 1) + waiting(NEW, 2), {2}, id="one that waits"),
        pytest.param(
            2, units(NEW, 1, 2) + unit(NEW, 0, ready=False), {0}, id="one that does not serve"
        ),
        pytest.param(1, units(OLD, 0) + units(NEW, 1), {0}, id="one of an older template"),
        pytest.param(0, units(OLD, 0) + units(NEW, 1), {0, 1}, id="all"),
        pytest.param(
            1, units(NEW, 0) + units(NEW, 1)[:1], {1}, id="the rest of one that is half gone"
        ),
    ],
)
def test_scaling_down_takes_whole_units(replicas: int, seen: list[Child], goes: set[int]) -> None:
    """Those first that nobody misses."""
    found = rollout.changes(chat("new", replicas=replicas), seen, now=NOW_S)

    assert going(found) == goes
    assert uids(found.delete) == uids(pod for pod in seen if pod.unit in goes)


def test_scaling_up_during_a_rollout_makes_units_of_the_newest_template_only() -> None:
    """Nothing is made that would have to go again at once."""
    of = chat("new", replicas=5)

    found = rollout.changes(of, units(OLD, 0, 1, 2), now=NOW_S)

    assert coming(found) == {3, 4, 5}
    assert {slot.revision for slot in found.create} == {of.revision}
    assert not found.delete


def test_to_apply_the_older_template_again_keeps_its_units() -> None:
    """An undo restarts nothing that still runs from what is wanted again."""
    seen = units(OLD, 0, 1) + unit(NEW, 3, ready=False)

    found = rollout.changes(chat("old", max_surge=0), seen, now=NOW_S)

    assert going(found) == {3}


def test_no_pod_is_made_in_a_unit_where_one_of_another_revision_is_ending() -> None:
    """A mixed pair would fail in the hand-over of its cache, and look healthy."""
    ending = unit(OLD, 0, terminating=True, ready=False)
    seen = [*ending[:1], *unit(NEW, 0)[1:]]

    found = rollout.changes(chat("new", replicas=1), seen, now=NOW_S)

    assert not found.create


def test_a_lost_pod_is_made_anew_in_its_unit_and_the_others_stay() -> None:
    """A dead prefill pod must not cost its decode pods."""
    found = rollout.changes(NEW, units(NEW, 0, 1, 2)[:-1], now=NOW_S)

    assert [slot.name for slot in found.create] == ["chat-2-decode-0"]
    assert not found.delete


@pytest.mark.parametrize("paused", [True, False])
def test_pods_of_an_older_template_are_marked_so_that_no_plan_moves_them(
    paused: bool,  # noqa: FBT001 - a column
) -> None:
    """Nobody could make the moved pod again: its unit, which serves, would go with it."""
    of, seen = chat("new", paused=paused), [*units(OLD, 0, 1), *units(NEW, 2)]

    found = rollout.changes(of, seen, now=NOW_S)

    assert {telling.pod.unit for telling in found.tell} == {0, 1}
    marked = [replace(pod, outdated=pod.unit in {0, 1}) for pod in seen]
    assert not rollout.changes(of, marked, now=NOW_S).tell
    undone = rollout.changes(chat("old"), marked, now=NOW_S)
    assert {(each.pod.unit, *each.annotations.values()) for each in undone.tell} == {
        (0, None),
        (1, None),
        (2, "true"),
    }


def test_a_unit_that_was_moved_whole_is_made_again_under_its_names() -> None:
    """A plan's move waits for the replacement by name."""
    of = chat("new", replicas=1)
    half = unit(of, 0, terminating=True, ready=False)[:1]

    assert [slot.name for slot in rollout.changes(of, half, now=NOW_S).create] == [
        "chat-0-decode-0"
    ]


@pytest.mark.parametrize(
    ("failures", "age_s", "made_anew"),
    [
        pytest.param(0, 19, False, id="not at once"),
        pytest.param(0, 20, True, id="after twenty seconds"),
        pytest.param(2, 79, False, id="later after each failure"),
        pytest.param(2, 80, True, id="twice as long for each"),
        pytest.param(50, 639, False, id="but"),
        pytest.param(50, 640, True, id="never longer than the most"),
    ],
)
def test_a_pod_that_fails_again_and_again_is_made_anew_with_back_off(
    failures: int,
    age_s: int,
    made_anew: bool,  # noqa: FBT001 - a column
) -> None:
    """A node that fails every pod must not be fed in a hot loop."""
    of = chat("new", replicas=1)
    failed = replace(unit(of, 0)[0], ended=True, ready=False, created_at=NOW_S - age_s)

    found = rollout.changes(
        of, [failed, *unit(of, 0)[1:]], failures={failed.name: failures}, now=NOW_S
    )

    assert found.delete == ((failed,) if made_anew else ())
    assert found.failures == {failed.name: failures + made_anew}
    assert (found.retry_at is None) is made_anew


def test_failures_are_forgotten_once_a_pod_is_well_or_not_wanted() -> None:
    """The status must not grow, nor punish what is long past."""
    of = chat("new", replicas=1)
    pods = [replace(pod, created_at=NOW_S - 600) for pod in unit(of, 0)]

    found = rollout.changes(of, pods, failures={pods[0].name: 3, "chat-9-decode-0": 2}, now=NOW_S)

    assert found.failures == {}


LEFT = NodeName("left")


def on(node: NodeName, of: Deployment, *indices: int) -> list[Child]:
    """Return units that serve on a node."""
    return [pod for index in indices for pod in unit(of, index, node=node)]


@pytest.mark.parametrize(
    ("how", "seen", "held", "goes", "comes"),
    [
        pytest.param(
            {}, on(LEFT, NEW, 0) + units(NEW, 1, 2), [], set(), {3}, id="a replacement comes first"
        ),
        pytest.param(
            {},
            on(LEFT, NEW, 0) + units(NEW, 1, 2) + waiting(NEW, 3),
            waiting(NEW, 3),
            set(),
            set(),
            id="without room for one nobody goes: the room that is left would be of no use",
        ),
        pytest.param(
            {},
            on(LEFT, NEW, 0) + units(NEW, 1, 2, 3),
            [],
            {0},
            set(),
            id="once it serves the unit goes",
        ),
        pytest.param(
            {"max_surge": 0}, on(LEFT, NEW, 0) + units(NEW, 1, 2), [], set(), set(), id="no surge"
        ),
        pytest.param(
            {"paused": True},
            on(LEFT, NEW, 0) + units(OLD, 1, 2),
            [],
            set(),
            {3},
            id="a paused rollout keeps nobody on a cordoned node",
        ),
        pytest.param(
            {},
            on(LEFT, NEW, 0, 1) + units(NEW, 2),
            [],
            set(),
            {3},
            id="one after the other where one may be added",
        ),
        pytest.param(
            {}, units(NEW, 0, 1, 2) + waiting(NEW, 3), [], {3}, set(), id="uncordoned in time"
        ),
        pytest.param(
            {"max_surge": 2, "max_unavailable": 0},
            on(LEFT, NEW, 0) + units(NEW, 1, 2, 3) + waiting(NEW, 4),
            waiting(NEW, 4),
            {0},
            set(),
            id="it goes as well where enough serve and one more finds no room",
        ),
    ],
)
def test_units_on_cordoned_nodes(
    how: dict[str, Any], seen: list[Child], held: list[Child], goes: set[int], comes: set[int]
) -> None:
    """Three units are asked for; the node `left` is cordoned."""
    of = chat("new", **how)

    found = rollout.changes(of, seen, around=Around(held=uids(held), cordoned={LEFT}), now=NOW_S)

    assert (going(found), coming(found)) == (goes, comes)


@pytest.mark.parametrize(
    ("how", "seen", "held", "goes"),
    [
        pytest.param({}, on(LEFT, NEW, 0) + units(NEW, 1, 2), [], set(), id="beside it at first"),
        pytest.param(
            {},
            on(LEFT, NEW, 0, 1) + units(NEW, 2) + waiting(NEW, 3),
            waiting(NEW, 3),
            {0},
            id="without room for another unit one is mended in its place",
        ),
        pytest.param(
            {"max_unavailable": 0},
            on(LEFT, NEW, 0) + units(NEW, 1, 2) + waiting(NEW, 3),
            waiting(NEW, 3),
            set(),
            id="unless none may be missing",
        ),
        pytest.param(
            {},
            on(LEFT, NEW, 0, 1) + unit(NEW, 2, ready=False) + waiting(NEW, 3),
            waiting(NEW, 3),
            set(),
            id="never a second one: a health checker gone mad takes no deployment down",
        ),
        pytest.param(
            {}, unit(NEW, 0, node=LEFT, ready=False) + units(NEW, 1, 2), [], {0}, id="a dead one"
        ),
    ],
)
def test_units_on_broken_gpus(
    how: dict[str, Any], seen: list[Child], held: list[Child], goes: set[int]
) -> None:
    """Three units are asked for; the GPUs of the node `left` are reported broken."""
    of = chat("new", **how)

    found = rollout.changes(of, seen, around=Around(held=uids(held), failing={LEFT}), now=NOW_S)

    assert going(found) == goes


def test_a_pod_on_a_broken_device_is_mended_alone() -> None:
    """Its node and the other pods of its unit are well."""
    seen = units(NEW, 0, 1, 2)
    seen[0] = replace(seen[0], broken=True, ready=False)

    assert rollout.changes(NEW, seen, now=NOW_S).delete == (seen[0],)


def test_a_unit_that_finds_no_room_for_a_pod_gives_back_the_rest_after_a_while() -> None:
    """GPUs of half a unit serve nobody; whole it may fit elsewhere."""
    of = chat("new", replicas=2)
    half = [replace(waiting(of, 1)[0], created_at=NOW_S - 14), unit(of, 1)[1]]
    seen, held = [*units(of, 0), *half], Around(held=uids(half[:1]))

    early = rollout.changes(of, seen, around=held, now=NOW_S)
    late = rollout.changes(of, seen, around=held, now=NOW_S + 1)

    assert not early.delete
    assert early.retry_at == NOW_S + 1
    assert uids(late.delete) == uids(half)
    assert not rollout.changes(of, seen, now=NOW_S + 1).delete


@pytest.mark.parametrize("ready", [True, False], ids=["serves", "starts"])
def test_a_unit_of_an_earlier_ratio_runs_on_while_its_new_pods_find_no_room(
    ready: bool,  # noqa: FBT001 - a column
) -> None:
    """A new ratio on a full cluster must not take away what is there."""
    pools = (NEW.pools[0], replace(NEW.pools[1], count=3))
    of = replace(NEW, replicas=1, pools=pools)
    before = {pod.name for pod in unit(NEW, 0)}
    more = [pod for pod in waiting(of, 0) if pod.name not in before]
    seen = [*unit(NEW, 0, ready=ready), *more]

    found = rollout.changes(of, seen, around=Around(held=uids(more)), now=NOW_S + 900)

    assert len(more) == 2
    assert not found.delete
    assert not found.drain
    assert found.retry_at is None


def test_half_a_unit_gives_back_its_room_only_when_its_requests_are_done() -> None:
    """Some engines of it may serve; no successor is made, and no other unit goes, before."""
    of = replace(NEW, replicas=2, drain_s=60)
    state = {"switched": True, "created_at": NOW_S - 100}
    halves = [[waiting(of, n)[0], unit(of, n, in_service=True, **state)[1]] for n in (0, 1)]
    held = uids(half[0] for half in halves)
    away = replace(halves[1][1], in_service=False, ready=False, drains_since=NOW_S)
    busy = Around(held=held, loads={away.uid: 3})

    first = rollout.changes(of, [*halves[0], *halves[1]], around=Around(held=held), now=NOW_S)
    later = rollout.changes(of, [*halves[0], halves[1][0], away], around=busy, now=NOW_S + 60)
    last = rollout.changes(of, [*halves[0], halves[1][0], away], around=busy, now=NOW_S + 61)

    assert (first.drain, first.delete) == ((halves[1][1],), ())
    assert (later.drain, later.delete, later.serve, later.create) == ((), (), (), ())
    assert uids(last.delete) == uids([halves[1][0], away])


def test_a_unit_that_is_being_bound_pod_by_pod_keeps_its_room() -> None:
    """Without a planner, too: gates that were lifted late are no sign of want of room."""
    of = chat("new", replicas=1)
    seen = [replace(waiting(of, 0)[0], gated=False), unit(of, 0)[1]]

    assert not rollout.changes(of, seen, now=NOW_S + 600).delete


def test_what_is_left_on_a_lost_node_is_given_up_and_made_anew() -> None:
    """Nobody is left there to say that it has ended, and its name is needed."""
    seen = [*units(NEW, 0, 1), *on(LEFT, NEW, 2)]

    found = rollout.changes(NEW, seen, around=Around(lost={LEFT}), now=NOW_S)

    assert uids(found.abandon) == uids(on(LEFT, NEW, 2))
    assert not found.delete


@pytest.mark.parametrize(
    ("overdue_s", "given_up"),
    [
        pytest.param(29, False, id="its node may come back"),
        pytest.param(30, True, id="it keeps its name no longer"),
    ],
)
def test_a_pod_that_does_not_end_on_a_silent_node_is_given_up(
    overdue_s: int,
    given_up: bool,  # noqa: FBT001 - a column
) -> None:
    """Kubernetes has evicted it, but nobody is there to stop it."""
    stuck = unit(NEW, 2, node=LEFT, ready=False, terminating=True, ends_by=NOW_S - overdue_s)

    found = rollout.changes(NEW, [*units(NEW, 0, 1), *stuck], around=Around(away={LEFT}), now=NOW_S)

    assert bool(found.abandon) is given_up


def out(index: int, *, since: int) -> list[Child]:
    """Return a unit that was taken out of service some seconds ago."""
    return unit(NEW, index, ready=False, switched=True, drains_since=NOW_S - since)


def in_service(*indices: int) -> list[Child]:
    """Return units in service."""
    return [p for n in indices for p in unit(NEW, n, switched=True, in_service=True)]


@pytest.mark.parametrize(
    ("seen", "loads", "deleted", "drained", "again_s"),
    [
        pytest.param(in_service(0, 1), {}, set(), {1}, 2, id="first it takes no new requests"),
        pytest.param(
            in_service(0, 1), {0: 2, 1: 3}, set(), {0}, 2, id="the one with the fewest requests"
        ),
        pytest.param(in_service(0, 1), {0: None, 1: 9}, set(), {1}, 2, id="silence is no idleness"),
        pytest.param(in_service(0) + out(1, since=5), {}, set(), set(), 1, id="gateways notice"),
        pytest.param(
            in_service(0) + out(1, since=6), {}, {1}, set(), None, id="nobody knows more: it goes"
        ),
        pytest.param(
            in_service(0) + out(1, since=6), {0: 0, 1: 0}, {1}, set(), None, id="it is idle"
        ),
        pytest.param(
            in_service(0) + out(1, since=6), {0: 0, 1: 4}, set(), set(), 2, id="it is busy"
        ),
        pytest.param(
            in_service(0) + out(1, since=60), {0: 0, 1: 4}, set(), set(), 1, id="to the end"
        ),
        pytest.param(
            in_service(0) + out(1, since=61), {0: 0, 1: 4}, {1}, set(), None, id="time is up"
        ),
        pytest.param(
            units(NEW, 0, 1), {}, {1}, set(), None, id="made without a switch it goes at once"
        ),
        pytest.param(
            in_service(0) + unit(NEW, 1, ready=False, switched=True, in_service=True),
            {},
            {1},
            set(),
            None,
            id="who does not serve has nothing to finish",
        ),
    ],
)
def test_a_unit_that_serves_is_drained(
    seen: list[Child],
    loads: dict[int, int | None],
    deleted: set[int],
    drained: set[int],
    again_s: int | None,
) -> None:
    """One of two units is to go; it may take 60 s."""
    of = replace(NEW, replicas=1, drain_s=60)
    around = Around(loads={pod.uid: loads[pod.unit] for pod in seen if pod.unit in loads})

    found = rollout.changes(of, seen, around=around, now=NOW_S)

    assert going(found) == deleted
    assert {pod.unit for pod in found.drain} == drained
    assert found.retry_at == (None if again_s is None else NOW_S + again_s)


def test_what_drains_counts_as_gone_but_not_as_room() -> None:
    """The next unit goes when a successor serves, and comes when the one before has ended."""
    of = replace(NEW, drain_s=60)
    old = unit(OLD, 2, ready=False, switched=True, drains_since=NOW_S - 1)
    seen = [*units(OLD, 0, 1), *old, *units(NEW, 3)]

    found = rollout.changes(of, seen, now=NOW_S)

    assert not found.drain
    assert not found.delete
    assert not found.create


def test_a_unit_that_is_wanted_again_is_put_back_into_service() -> None:
    """An undo in time costs nobody a cold start."""
    of = replace(NEW, replicas=2, drain_s=60)

    found = rollout.changes(of, in_service(0) + out(1, since=4), now=NOW_S)

    assert uids(found.serve) == uids(out(1, since=4))
    assert not found.delete


def yielding(index: int, *, since: int) -> list[Child]:
    """Return a unit that was taken out of service some seconds ago, for a plan."""
    return [replace(pod, yields=True) for pod in out(index, since=since)]


def test_a_unit_that_yields_to_a_plan_at_work_is_left_to_it() -> None:
    """Two who put it back and take it out in turn would never end."""
    of, pods = replace(NEW, replicas=2, drain_s=60), yielding(1, since=30)

    at_work = rollout.changes(
        of, in_service(0) + pods, around=Around(leaving=uids(pods)), now=NOW_S
    )
    over = rollout.changes(of, in_service(0) + pods, now=NOW_S)

    assert at_work == Changes()
    assert uids(over.serve) == uids(pods), "nobody stays out of service for a plan that has ended"


def test_a_unit_that_is_wanted_again_does_not_wait_for_a_plan_that_makes_it_leave_later() -> None:
    """It was taken out of service for another reason, which is gone."""
    of, pods = replace(NEW, replicas=2, drain_s=60), out(1, since=4)

    found = rollout.changes(of, in_service(0) + pods, around=Around(leaving=uids(pods)), now=NOW_S)

    assert uids(found.serve) == uids(pods)


def test_a_pod_that_yields_on_broken_hardware_is_not_taken_for_one_that_failed() -> None:
    """It is not ready because it finishes its requests, and its plan makes it leave anyway."""
    of, pods = replace(NEW, replicas=1, drain_s=60), yielding(0, since=30)
    pods[0] = replace(pods[0], broken=True)

    found = rollout.changes(of, pods, around=Around(leaving=uids(pods)), now=NOW_S)

    assert not found.delete


def test_a_unit_that_yields_is_the_first_to_go() -> None:
    """It serves nobody, and its time runs already."""
    of, pods = replace(NEW, replicas=1, drain_s=60), yielding(0, since=30)

    found = rollout.changes(of, pods + in_service(1), around=Around(leaving=uids(pods)), now=NOW_S)

    assert going(found) == {0}
    assert not found.drain


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
    ],
)
def test_progressing_says_what_a_rollout_waits_for(
    of: Deployment, seen: list[Child], news: dict[str, Any], want: tuple[str, str, str]
) -> None:
    """In words that name the next action."""
    assert told(of, sorted(seen, key=lambda pod: pod.name), **news) == want
