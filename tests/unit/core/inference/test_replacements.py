"""Replacements that start first, case by case: who may be doubled, who counts, who goes."""

from dataclasses import replace
from typing import Any

import pytest

from bayplan.api import names
from bayplan.api.pools import Role
from bayplan.cluster.keys import NodeName
from bayplan.cluster.resources import Resources
from bayplan.inference import replacements, rollout
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment, Pool
from bayplan.inference.pairs import Pair, pairs_of
from bayplan.inference.replacements import Outlook
from bayplan.inference.rollout import Changes
from bayplan.inference.tally import Tally
from bayplan.inference.units import Around
from tests.scenes.rollout import NOW_S, chat, status_of, told, unit, units, waiting

OF, ONE = chat("a", replicas=2), chat("a", replicas=1)
TARGET, LEFT = NodeName("n2"), NodeName("left")

#: What is said of a pod that serves, and of one that is on its way.
SERVING: dict[str, Any] = {"switched": True, "in_service": True}


def old(**state: Any) -> Child:  # noqa: ANN401 - fields of Child
    """Return the decode pod of unit 0, which is moved."""
    pods = unit(OF, 0, **SERVING, gives_way_by=NOW_S + 60)
    return replace(next(pod for pod in pods if pod.pool == "decode"), **state)


def new(**state: Any) -> Child:  # noqa: ANN401 - fields of Child
    """Return its replacement, which starts on its node."""
    made: dict[str, Any] = {
        "name": "chat-0-decode-1",
        "uid": "u-new",
        "replica": 1,
        "node": TARGET,
        "pin": TARGET,
        "plan": "plan-1",
        "ready": False,
        "replaces": old().uid,
        "serves_by": NOW_S + 60,
        "gives_way_by": 0,
        "created_at": NOW_S - 30,
    }
    return replace(old(), **(made | state))


def others(of: Deployment = OF, count: int = 2) -> list[Child]:
    """Return all pods but the one that is moved."""
    pods = [pod for index in range(count) for pod in unit(of, index, **SERVING)]
    return [pod for pod in pods if pod.name != old().name]


def decide(*pods: Child, of: Deployment = OF, **around: Any) -> Changes:  # noqa: ANN401
    """Return what to do, with the other pods serving."""
    return rollout.changes(of, [*others(), *pods], around=Around(**around), now=NOW_S)


def said(found: Changes) -> dict[str, dict[str, str | None]]:
    """Return the annotations to write, by the pod's name."""
    return {patch.pod.name: dict(patch.annotations) for patch in found.patch}


def test_a_serving_pod_may_be_doubled_under_a_number_of_its_own() -> None:
    """The replacement would wait for the name of the old pod."""
    pods = [*others(), old(gives_way_by=0)]

    slot = replacements.slot_beside(OF, pods, old().uid)

    assert slot is not None
    assert (slot.name, slot.unit, slot.index) == ("chat-0-decode-1", 0, 1)
    assert (slot.unit_size, slot.represents) == (2, False)
    assert replacements.outlook(OF, pods).left == 1


@pytest.mark.parametrize(
    ("of", "pods"),
    [
        pytest.param(chat("a", replicas=2, max_surge=0), [old()], id="no more may be made"),
        pytest.param(chat("b", replicas=2), [old()], id="a rollout goes first"),
        pytest.param(ONE, [old()], id="a unit more is there already"),
        pytest.param(OF, [old(ready=False)], id="it does not serve"),
        pytest.param(OF, [old(drains_since=NOW_S)], id="it drains"),
        pytest.param(OF, [old(terminating=True)], id="it is being deleted"),
        pytest.param(OF, [old(replica_size=2)], id="it is one of several pods of a replica"),
        pytest.param(OF, [old(), new()], id="it is doubled"),
        pytest.param(replace(OF, replicas=0), [old()], id="nothing is asked for"),
    ],
)
def test_a_pod_may_not_be_doubled_where(of: Deployment, pods: list[Child]) -> None:
    """It would take room that nobody allowed, or help nobody."""
    assert replacements.slot_beside(of, [*others(), *pods], old().uid) is None


def test_a_pod_that_starts_in_the_place_of_another_is_not_doubled_itself() -> None:
    """Three pods would stand for one."""
    look = replacements.outlook(chat("a", replicas=2, max_surge=3), [*others(), old(), new()])

    assert not look.able & {old().uid, new().uid}
    assert (look.left, look.doubled) == (2, 1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(old(pool="prefill"), new(), id="of another pool"),
        pytest.param(old(revision="b"), new(), id="of another revision"),
        pytest.param(old(), new(replica=old().replica), id="under its own number"),
        pytest.param(old(ended=True), new(), id="that has ended"),
        pytest.param(old(node=None), new(), id="that is nowhere"),
        pytest.param(old(terminating=True), new(), id="that is being deleted"),
        pytest.param(old(), new(replaces="u-other"), id="that nobody names"),
        pytest.param(old(), new(serves_by=0), id="that no plan starts one for"),
    ],
)
def test_a_pod_does_not_stand_for_one(before: Child, after: Child) -> None:
    """One of the two would not count, and the other would go without anybody in its place."""
    assert pairs_of([before, after]) == ()


def test_of_two_in_the_place_of_one_the_first_counts_and_nobody_stands_for_it() -> None:
    """A pod would be aside in one pair and count in the other."""
    first, second = new(), new(uid="u-second", name="chat-0-decode-2", replica=2)
    late = replace(first, uid="u-late", name="chat-0-decode-0b", created_at=NOW_S)
    third = new(uid="u-third", name="chat-0-decode-3", replica=3, replaces=first.uid)

    pods = [third, late, second, first, old()]

    assert pairs_of(pods) == (Pair(old=old(), new=first),)
    assert pairs_of([*reversed(pods)]) == pairs_of(pods)
    early = replace(third, created_at=first.created_at - 1)
    assert pairs_of([early, first, old()]) == (Pair(old=first, new=early),)


def test_of_other_deployments_and_of_none_there_is_no_outlook() -> None:
    """A stranger with our labels would be doubled."""
    strangers = [replace(pod, owner_uid="u-other") for pod in [*others(), old()]]

    assert replacements.outlook(replace(OF, replicas=0), [old()]) == Outlook()
    assert replacements.outlook(OF, strangers).able == frozenset()


def test_while_the_replacement_starts_the_old_pod_counts_and_nothing_is_done() -> None:
    """The replacement would be surplus, or its unit would have another size."""
    found = decide(old(), new(in_service=True))

    assert found == Changes(retry_at=NOW_S + 60)
    tally = Tally.of(OF, [*others(), old(), new()])
    assert (tally.units.ready, tally.units.scheduled, len(tally.pods)) == (2, 2, 4)
    assert status_of(OF, [*others(), old(), new()])["reason"] == "Moving"
    assert told(OF, [*others(), old(), new()])[1:] == (
        "Moving",
        "chat-0-decode-0 serves on n1 until chat-0-decode-1 does on n2",
    )


def test_a_replacement_is_let_go_to_its_node_and_put_into_service() -> None:
    """Whoever made it may have died before."""
    gated = new(node=None, gated=True, in_service=False)
    bound = new(in_service=False)

    assert [pod.name for pod in decide(old(), gated).lift] == ["chat-0-decode-1"]
    assert [pod.name for pod in decide(old(), bound).serve] == ["chat-0-decode-1"]


def test_the_old_pod_says_that_it_gives_way_as_long_as_it_does() -> None:
    """Planners would move it again, or wait for its room for ever."""
    instant = {names.ANNOTATION_GIVES_WAY_BY: "2026-05-01T12:01:00Z"}

    assert said(decide(old(gives_way_by=0), new())) == {"chat-0-decode-0": instant}
    assert said(decide(old(), new())) == {}
    assert said(decide(old())) == {"chat-0-decode-0": {names.ANNOTATION_GIVES_WAY_BY: None}}


def test_when_the_replacement_serves_the_old_pod_finishes_its_requests_and_is_evicted() -> None:
    """It would be cut off, or stay for ever."""
    of = replace(OF, drain_s=60)
    ready = new(ready=True)
    drains = old(in_service=False, ready=False, drains_since=NOW_S - 10)

    begun, busy, idle = (
        decide(old(), ready, of=of),
        decide(drains, ready, of=of, loads={old().uid: 3}),
        decide(drains, ready, of=of),
    )

    assert [pod.name for pod in begun.relieve] == ["chat-0-decode-0"]
    assert not (begun.evict)
    assert not (begun.drain)
    assert not (begun.serve)
    assert busy == Changes(retry_at=NOW_S + 2)
    assert [pod.name for pod in idle.evict] == ["chat-0-decode-0"]
    assert not idle.delete
    assert told(OF, [*others(), old(), ready])[2] == (
        "chat-0-decode-1 serves on n2; chat-0-decode-0 is leaving n1"
    )


def test_a_replacement_that_is_not_ready_any_more_gives_the_old_pod_back_its_place() -> None:
    """Neither would serve."""
    drains = old(in_service=False, ready=False, drains_since=NOW_S - 10)

    found = decide(drains, new(), of=replace(OF, drain_s=60))

    assert [pod.name for pod in found.serve] == ["chat-0-decode-0"]
    assert not (found.evict)
    assert not (found.relieve)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        pytest.param({"serves_by": NOW_S}, "Late", id="its time is over"),
        pytest.param({"ended": True}, "Ended", id="it has failed"),
        pytest.param({"node": None, "created_at": NOW_S - 120}, "Unbound", id="it was never bound"),
        pytest.param({"restarts": 3}, "Crashes", id="it crashes again and again"),
    ],
)
def test_a_replacement_that_does_not_come_to_serve_is_given_up(
    state: dict[str, Any], why: str
) -> None:
    """It would stand there for ever, and be tried again at once."""
    found = decide(old(), new(**state))

    assert [pod.name for pod in found.delete] == ["chat-0-decode-1"]
    assert [each.pair.old.name for each in found.failed] == ["chat-0-decode-0"]
    assert said(found) == {
        "chat-0-decode-0": {
            names.ANNOTATION_GIVES_WAY_BY: None,
            names.ANNOTATION_MOVE_FAILED: f"plan-1 2026-05-01T12:00:00Z {why}",
        }
    }
    assert not (found.drain)
    assert not (found.evict)
    assert not (found.create)


@pytest.mark.parametrize(
    ("of", "pods", "around"),
    [
        pytest.param(chat("b", replicas=2), [old(), new()], {}, id="another template came"),
        pytest.param(OF, [old(), new()], {"cordoned": {TARGET}}, id="its node is to be left"),
        pytest.param(OF, [old(), new()], {"failing": {TARGET}}, id="its node is broken"),
        pytest.param(
            OF,
            [old(), new(node=None)],
            {"lost": {TARGET}},
            id="its node is gone before it was bound",
        ),
    ],
)
def test_a_replacement_that_is_of_no_use_any_more_is_removed_and_the_old_pod_stays(
    of: Deployment, pods: list[Child], around: dict[str, Any]
) -> None:
    """It would take room for nothing."""
    found = decide(*pods, of=of, **around)

    assert [pod.name for pod in found.delete] == ["chat-0-decode-1"]
    assert not (found.failed)
    assert not (found.drain)
    assert not (found.evict)


@pytest.mark.parametrize("state", [{"restarts": 2}, {"restarts": 3, "ready": True}])
def test_a_replacement_that_may_yet_serve_or_does_is_not_given_up(state: dict[str, Any]) -> None:
    """What it waits for may only be late; and whoever serves has come to do so."""
    found = decide(old(), new(**state))

    assert not found.failed
    assert not found.delete


def test_scaling_down_takes_both_of_a_pair() -> None:
    """One of them would stay behind."""
    of = replace(ONE, drain_s=60)
    busier = {pod.uid: 9 for pod in unit(OF, 1)}

    starting = decide(old(), new(), of=of, loads=busier)
    serving = decide(old(), new(ready=True), of=of, loads=busier)

    assert [pod.name for pod in starting.delete] == ["chat-0-decode-1"]
    assert {pod.name for pod in starting.drain} == {"chat-0-decode-0", "chat-0-prefill-0"}
    assert {pod.name for pod in serving.drain} == {
        *("chat-0-decode-0", "chat-0-decode-1", "chat-0-prefill-0"),
    }
    assert not (serving.relieve)
    assert not (serving.evict)


def test_a_rollout_makes_no_unit_more_than_may_be_with_pods_that_are_doubled() -> None:
    """There would be two more than maxSurge allows."""
    both = decide(old(), new(ready=True), of=chat("b", replicas=2))
    alone = decide(old(), of=chat("b", replicas=2))

    assert not both.create
    assert {slot.unit for slot in alone.create} == {2}


def test_an_old_pod_of_an_older_template_that_was_relieved_goes_with_no_budget_asked() -> None:
    """A budget that never admits it would stop the rollout."""
    found = decide(old(), new(ready=True), of=chat("b", replicas=2))

    assert [pod.name for pod in found.delete] == ["chat-0-decode-0"]
    assert not found.evict


def test_a_move_off_a_node_that_is_to_be_left_is_enough_to_leave_it() -> None:
    """The whole unit would start anew although its last pod there is on its way out."""
    leaving = old(node=LEFT)

    relieved = decide(leaving, new(ready=True), cordoned={LEFT})

    assert [pod.name for pod in relieved.evict] == ["chat-0-decode-0"]
    assert not (relieved.create)
    assert not (relieved.drain)


def test_if_the_old_pod_goes_the_replacement_is_the_replica() -> None:
    """A third pod would be made under its name, or the replacement removed."""
    found = decide(old(terminating=True), new(in_service=True))

    assert found == Changes()


def test_a_replica_that_is_not_wanted_any_more_is_not_replaced() -> None:
    """The replacement would start to be removed then."""
    pools = tuple(
        Pool(name=role.lower(), role=role, count=n, template={"spec": "a"}, requests=Resources())
        for role, n in ((Role.PREFILL, 1), (Role.DECODE, 2))
    )
    large = replace(OF, pools=pools, replicas=1)
    pods = unit(large, 0, **SERVING)
    moved = next(pod for pod in pods if pod.name == "chat-0-decode-1")
    starts = replace(
        new(), name="chat-0-decode-2", replica=2, replaces=moved.uid, revision=moved.revision
    )
    small = replace(large, pools=(pools[0], replace(pools[1], count=1)))

    found = rollout.changes(small, [*pods, starts], now=NOW_S)

    assert {pod.name for pod in found.delete} == {"chat-0-decode-1", "chat-0-decode-2"}
    assert not found.failed


def test_growth_takes_no_number_of_a_pod_that_stands_aside() -> None:
    """The new replica would wait until the move is over."""
    pools = tuple(replace(pool, count=1 + (pool.name == "decode")) for pool in replace(OF).pools)

    found = decide(old(), new(in_service=True), of=replace(OF, pools=pools))

    assert {slot.name for slot in found.create} == {"chat-0-decode-2", "chat-1-decode-1"}


def test_one_pod_of_each_unit_stands_for_it_and_another_when_that_is_gone() -> None:
    """An autoscaler counts units by these pods."""
    first = next(pod for pod in unit(OF, 0, **SERVING) if pod.pool == "prefill")
    rest = [pod for pod in [*others(), old(gives_way_by=0)] if pod.name != first.name]
    mark: dict[str, Any] = {
        "gives_way_by": 0,
        "name": "chat-0-prefill-1",
        "uid": "u-new",
        "replica": 1,
    }
    starts = replace(
        first, **mark, represents=False, ready=False, replaces=first.uid, serves_by=NOW_S + 60
    )

    def labels(*pods: Child) -> dict[str, dict[str, str | None]]:
        found = rollout.changes(OF, [*rest, *pods], now=NOW_S)
        return {t.pod.name: dict(t.labels) for t in found.patch if t.labels}

    assert labels(first, starts) == {}
    assert labels(first, replace(starts, ready=True)) == {
        "chat-0-prefill-0": {names.LABEL_REPRESENTS: None},
        "chat-0-prefill-1": {names.LABEL_REPRESENTS: "true"},
    }
    assert labels(replace(starts, ready=True)) == {
        "chat-0-prefill-1": {names.LABEL_REPRESENTS: "true"}
    }


def test_a_slow_model_gets_the_time_of_two_of_its_starts() -> None:
    """It would be removed again and again just before it serves."""
    assert replacements.serves_within_s(OF) == 600
    assert replacements.serves_within_s(replace(OF, cold_start_s=900)) == 1800
    assert replacements.serves_within_s(replace(OF, cold_start_s=86_400)) == 90_000


def test_units_that_wait_are_no_units_more() -> None:
    """A unit without a node would keep pods from being moved gently."""
    pods = [*units(OF, 0), *waiting(OF, 1)]

    assert replacements.outlook(OF, pods).left == 1


def test_one_that_has_served_for_long_may_fail_a_probe() -> None:
    """Its requests would be cut off at once, long after it was there to stay."""
    late = {"serves_by": NOW_S - 3600, "created_at": NOW_S - 4200}

    hiccup, long = (decide(old(), new(**late, unready_since=NOW_S - s)) for s in (10, 61))

    assert not hiccup.delete
    assert [pod.name for pod in long.delete] == ["chat-0-decode-1"]


@pytest.mark.parametrize("bad", [{"broken": True}, {"node": "n9", "pin": "n9"}])
def test_nobody_leaves_for_one_on_broken_hardware(bad: dict[str, Any]) -> None:
    """A healthy pod would go, and then the whole unit have to."""
    around: dict[str, Any] = {"failing": frozenset({"n9"})}

    found = decide(old(), new(ready=True, **bad), **around)

    assert not found.evict
    assert not found.relieve
    assert not found.delete


def test_an_operator_whose_clock_is_ahead_gives_a_replacement_its_time() -> None:
    """Every move would be given up a moment after it began."""
    behind = new(node=None, created_at=NOW_S - 300, serves_by=NOW_S + replacements.START_S - 5)

    assert not decide(old(), behind).delete
    assert decide(old(), replace(behind, serves_by=NOW_S + 400)).delete
