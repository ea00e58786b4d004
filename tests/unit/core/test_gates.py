"""When gates are lifted without a plan, and which pins are hopeless."""

from dataclasses import replace

import pytest

from bayplan import gates
from bayplan.cluster.constraints import Constraints, Taint, Toleration
from bayplan.cluster.keys import NodeName
from bayplan.cluster.pods import Disruption, Pod
from bayplan.gates import PlannerSigns
from bayplan.plan import Hold, Reason, Rejection
from bayplan.policy import NodeProvisioning, Policy
from tests.builders import node, pod, snapshot

NOW = 1000.0


def signs(*, renewed_at: float | None = None, since: float = 0.0) -> PlannerSigns:
    """Return what is known about a planner that may be silent for a minute."""
    return PlannerSigns(renewed_at=renewed_at, watched_since=since, timeout_s=60.0)


def waiting(*, created_at: int = 0) -> Pod:
    """Return a pod behind our gate."""
    return replace(pod("p"), created_at=created_at)


@pytest.mark.parametrize(
    ("seen", "away_s"),
    [
        pytest.param(signs(renewed_at=NOW - 10), 0, id="a planner that renewed lately is alive"),
        pytest.param(signs(renewed_at=NOW - 59.9), 0, id="it may be silent for the time-out"),
        pytest.param(signs(renewed_at=NOW - 60), 60, id="then it is away"),
        pytest.param(signs(), NOW, id="without a lease there is none"),
        pytest.param(signs(since=NOW - 59), 0, id="we have just begun to look"),
        pytest.param(
            signs(renewed_at=NOW - 500, since=NOW - 59),
            0,
            id="an old lease may be about to be taken",
        ),
        pytest.param(signs(renewed_at=NOW + 5), 0, id="its clock may be ahead"),
    ],
)
def test_silence_of_the_planner(seen: PlannerSigns, away_s: float) -> None:
    """Too early takes the plan away from every pod; never would let pods wait for ever."""
    assert seen.away_s(NOW) == away_s


@pytest.mark.parametrize(
    ("seen", "one", "lifted"),
    [
        pytest.param(signs(), waiting(), True, id="a pod that has waited long enough"),
        pytest.param(
            signs(renewed_at=NOW - 1), waiting(), False, id="not while a planner is alive"
        ),
        pytest.param(signs(), waiting(created_at=941), False, id="a pod that is too young"),
        pytest.param(signs(), waiting(created_at=940), True, id="a pod just old enough"),
        pytest.param(signs(), pod("p", on="n1"), False, id="a pod that has a node"),
        pytest.param(
            signs(), replace(pod("p"), waiting=False), False, id="a pod behind another gate"
        ),
    ],
)
def test_which_gates_are_lifted(seen: PlannerSigns, one: Pod, lifted: bool) -> None:  # noqa: FBT001 - a column
    """Fail open, and only then."""
    assert gates.overdue([one], seen, {}, at=NOW, now=NOW) == ((one,) if lifted else ())


def pinned(name: str, *, on: str = "n1", gpus: int = 4, created_at: int = 0) -> Pod:
    """Return a pod that a plan sent to a node and that is not bound yet."""
    made = pod(name, on=on, gpus=gpus, disruption=Disruption.FIXED)
    return replace(made, bound=False, created_at=created_at)


def test_a_pin_with_room_is_no_trap() -> None:
    """The scheduler binds it in a moment."""
    one = pinned("p")

    assert not gates.stranded(snapshot(node("n1"), one), [one])


@pytest.mark.parametrize(
    ("things", "why"),
    [
        pytest.param([], "n1 is gone", id="its node is gone"),
        pytest.param([node("n1", ready=False)], "n1 is not ready", id="its node has failed"),
        pytest.param([node("n1", schedulable=False)], "n1 is cordoned", id="its node is cordoned"),
        pytest.param(
            [node("n1"), pod("x", on="n1", gpus=6)],
            "others took its room on n1",
            id="others took its room",
        ),
    ],
)
def test_a_pin_that_cannot_be_kept_is_a_trap(things: list, why: str) -> None:  # type: ignore[type-arg]
    """The pod would wait for ever: its affinity cannot be changed any more."""
    one = pinned("p")

    assert gates.stranded(snapshot(one, *things), [one]) == {one.uid: why}


def test_who_tolerates_what_was_said_of_its_node_is_not_shut_out() -> None:
    """It would be made anew on that node again and again."""
    marked = node("n1", taints=(Taint(key="repair"),))
    plain = pinned("plain")
    bold = replace(
        pinned("bold"), constraints=Constraints(tolerations=(Toleration(operator="Exists"),))
    )

    assert gates.shut_out(snapshot(marked, plain, bold), [plain, bold]) == {plain.uid}
    assert not gates.shut_out(snapshot(plain), [plain])


def test_on_an_over_full_node_the_youngest_pins_go_until_the_rest_fits() -> None:
    """No more than necessary."""
    pods = [pinned(name, created_at=n) for n, name in enumerate("abcd")]

    found = gates.stranded(snapshot(node("n1"), *pods), pods)

    assert set(found) == {"uid-c", "uid-d"}


def test_a_lack_of_what_a_pod_does_not_use_is_none_of_its_business() -> None:
    """The node has too little memory for its running pods; the pinned one asks for none."""
    one = pinned("p")
    heavy = pod("x", on="n1", gpus=0, memory_mib=600_000)

    assert not gates.stranded(snapshot(node("n1"), one, heavy), [one])


def test_who_is_refused_takes_no_room_from_other_pins() -> None:
    """A younger pod would be replaced in place of one that is larger than the node."""
    giant, one = pinned("giant", gpus=16, created_at=1), pinned("one", created_at=2)

    found = gates.stranded(snapshot(node("n1"), giant, one), [giant, one])

    assert set(found) == {"uid-giant"}


@pytest.mark.parametrize(
    "phantom",
    [
        pytest.param(pinned("x", gpus=16), id="larger than its node"),
        pytest.param(pinned("a-x", gpus=4), id="with no room beside what runs there"),
        pytest.param(replace(pinned("x"), node=NodeName("n2")), id="on a node that is cordoned"),
    ],
)
def test_a_pin_that_cannot_be_kept_is_not_believed(phantom: Pod) -> None:
    """Anybody could close a node by a pod that is never scheduled."""
    things = (node("n1"), node("n2", schedulable=False), pod("a", on="n1", gpus=6))
    ours = pinned("ours", gpus=2, created_at=9)

    assert gates.believed(snapshot(*things, ours, phantom)) == snapshot(*things, ours)


def test_a_pin_that_will_be_kept_is_believed() -> None:
    """Its room would be given to others before the scheduler has bound it."""
    there = snapshot(node("n1"), pinned("ours"), pod("a", on="n1", gpus=4), pod("w"))

    assert gates.believed(there) == there


def test_a_pin_to_a_node_out_of_sight_is_believed() -> None:
    """Who looks at a few nodes alone would lose every pod that has its home on another one."""
    there = snapshot(node("n1"), pinned("ours"), pinned("theirs", on="n2"))

    assert gates.believed(there) == there


def test_a_bound_pod_of_ours_takes_its_room_from_other_pins() -> None:
    """A pod that can never come would keep others away."""
    ours, theirs = pod("ours", on="n1", gpus=6), pinned("theirs")
    there = snapshot(node("n1"), ours, theirs)

    assert gates.believed(there, ours={ours.uid}) == snapshot(node("n1"), ours)


@pytest.mark.parametrize(
    ("reason", "offered"),
    [
        (Reason.GANG_DOES_NOT_FIT, True),
        (Reason.INSUFFICIENT_ROOM, True),
        (Reason.OUTRANKED, True),
        (Reason.TOO_SMALL, True),
        (Reason.NO_PLACE_FOUND, False),
        (Reason.GANG_INCOMPLETE, False),
        (Reason.DISRUPTION_FORBIDDEN, False),
    ],
)
def test_autoscalers_are_shown_what_only_a_new_node_can_help(
    reason: Reason, *, offered: bool
) -> None:
    """A node would be bought for a pod that fits once a budget admits it, or never for another."""
    waits = pod("p")
    hold = Hold(pod=waits.key, uid=waits.uid, rejection=Rejection(reason=reason, message="why"))
    willing = Policy(node_provisioning=NodeProvisioning.WHEN_INFEASIBLE)

    assert gates.to_offer([hold], willing) == ({waits.uid} if offered else set())
    assert not gates.to_offer([hold], Policy())
