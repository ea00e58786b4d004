"""Carrying out a plan step by step: what is done, what is refused, and that it always ends."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayplan import steps
from bayplan.constraints import Taint
from bayplan.inference.drains import Farewell
from bayplan.keys import GangKey, NodeName, Owner, PodKey
from bayplan.plan import (
    Bind,
    Certificate,
    Evict,
    Hold,
    Move,
    Plan,
    Reason,
    Rejection,
    Verdict,
    plan_of,
)
from bayplan.policy import Order, Policy
from bayplan.resources import Resources
from bayplan.snapshot import Disruption, Node, Pod, Snapshot
from bayplan.steps import DrainPod, EvictPod, Phase, Progress, ReleasePod, ServePod, State, Step
from tests.builders import apart, node, pod, snapshot

CERTIFICATE = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)


def key(name: str) -> PodKey:
    """Return the key of a pod of the builders."""
    return PodKey(namespace="default", name=name)


def bind(name: str, on: str, gang: str | None = None) -> Bind:
    """Return a bind of the pod that `pod(name)` makes."""
    made = GangKey(namespace="default", name=gang) if gang else None
    return Bind(pod=key(name), uid=f"uid-{name}", node=NodeName(on), gang=made)


def move(name: str, source: str, target: str, owner: Owner | None = None) -> Move:
    """Return a move of the pod that `pod(name)` makes."""
    return Move(
        pod=key(name),
        uid=f"uid-{name}",
        source=NodeName(source),
        target=NodeName(target),
        owner=owner or Owner(kind="ReplicaSet", namespace="default", name=name, uid=name),
        priority=0,
    )


def evict(name: str, on: str, gang: str | None = None) -> Evict:
    """Return an eviction of the pod that `pod(name)` makes."""
    made = GangKey(namespace="default", name=gang) if gang else None
    return Evict(pod=key(name), uid=f"uid-{name}", node=NodeName(on), priority=0, gang=made)


def hold(name: str) -> Hold:
    """Return a hold of the pod that `pod(name)` makes."""
    rejection = Rejection(reason=Reason.NO_NODES, message="there are no nodes")
    return Hold(pod=key(name), uid=f"uid-{name}", rejection=rejection)


def plan(*actions: Bind | Move | Evict | Hold) -> Plan:
    """Return the plan of these actions."""
    return plan_of(CERTIFICATE, actions)


def advance(
    made: Plan,
    *things: Node | Pod,
    idle_s: float = 0,
    max_parallel: int = 10,
    farewells: Mapping[str, Farewell] | None = None,
) -> Progress:
    """Return the progress of a plan on the cluster of these nodes and pods.

    `farewells` are by the names of pods.
    """
    policy = Policy(max_parallel_moves=max_parallel)
    by_uid = {f"uid-{name}": farewell for name, farewell in (farewells or {}).items()}
    return steps.advance(made, snapshot(*things), policy, idle_s=idle_s, farewells=by_uid)


def told(progress: Progress) -> list[str]:
    """Return the reports as lines."""
    return [f"{r.type} {r.pod.name} {r.state}: {r.message}" for r in progress.reports]


def done(progress: Progress) -> list[str]:
    """Return the steps as lines."""
    return [_line(step) for step in progress.todo]


def _line(step: Step) -> str:
    if isinstance(step, EvictPod):
        return f"evict {step.pod.name} from {step.node}"
    if not isinstance(step, ReleasePod):
        return f"{'drain' if isinstance(step, DrainPod) else 'serve'} {step.pod.name}"
    tail = f" for {step.replaces}" if step.replaces else ""
    return f"release {step.pod.name} to {step.node}{tail}"


def pinned(name: str, on: str, **more: object) -> Pod:
    """Return a pod that was released to a node and is not bound yet."""
    return replace(pod(name, on=on, **more), bound=False, disruption=Disruption.FIXED)  # type: ignore[arg-type]


# Homes.


def test_a_pod_with_room_is_released_to_its_node() -> None:
    """The simplest plan there is."""
    found = advance(plan(bind("a", "n1")), node("n1"), pod("a"))

    assert done(found) == ["release a to n1"]
    assert told(found) == ["Bind a Started: is released to its node"]
    assert (found.phase, found.message) == (
        Phase.EXECUTING,
        "0 of 1 steps done: default/a is released to its node",
    )


@pytest.mark.parametrize(
    ("things", "state", "message"),
    [
        pytest.param(
            [node("n1"), pod("a", on="n1")], State.DONE, "runs on n1", id="a bound pod is there"
        ),
        pytest.param(
            [node("n1"), pinned("a", "n1")],
            State.STARTED,
            "is pinned to n1; the scheduler binds it next",
            id="a pinned pod is on its way",
        ),
        pytest.param([node("n1")], State.FAILED, "is gone", id="the pod was deleted"),
        pytest.param(
            [node("n1"), replace(pod("a"), uid="other")],
            State.FAILED,
            "is gone",
            id="a namesake is another pod",
        ),
        pytest.param(
            [node("n1"), pod("a", terminating=True)],
            State.FAILED,
            "is gone",
            id="the pod is being deleted",
        ),
        pytest.param(
            [node("n1"), node("n2"), pod("a", on="n2")],
            State.DONE,
            "runs on n2 already",
            id="seen: the plan before had released it elsewhere, and this one failed",
        ),
        pytest.param(
            [node("n1"), node("n2"), pinned("a", "n2")],
            State.STARTED,
            "is pinned to n2 already; the scheduler binds it next",
            id="the plan before has pinned it elsewhere",
        ),
        pytest.param(
            [node("n1"), replace(pod("a"), waiting=False)],
            State.FAILED,
            "no longer waits for n1: its gate was lifted",
            id="the gate was lifted by time-out",
        ),
        pytest.param(
            [pod("a")], State.FAILED, "cannot go to n1: the node is gone", id="the node is gone"
        ),
        pytest.param(
            [node("n1", ready=False), pod("a")],
            State.FAILED,
            "cannot go to n1: n1 is not ready",
            id="the node is not ready",
        ),
        pytest.param(
            [node("n1", schedulable=False), pod("a")],
            State.FAILED,
            "cannot go to n1: n1 is cordoned",
            id="the node was cordoned",
        ),
        pytest.param(
            [node("n1", taints=(Taint(key="gone"),)), pod("a")],
            State.FAILED,
            "cannot go to n1: does not tolerate the taint gone:NoSchedule of n1",
            id="the node was tainted",
        ),
        pytest.param(
            [node("n1"), pod("a", gpus=4), pod("b", gpus=6, on="n1")],
            State.FAILED,
            "cannot go to n1: others took its room (2 GPUs short)",
            id="somebody took its room",
        ),
        pytest.param(
            [node("n1"), pod("a", gpus=4), pod("b", gpus=6, on="n1", terminating=True)],
            State.WAITING,
            "waits for room on n1",
            id="a stranger that is leaving gives room",
        ),
        pytest.param(
            [pinned("a", "n1")],
            State.FAILED,
            "is pinned to n1: the node is gone",
            id="the node is gone after the pin",
        ),
        pytest.param(
            [node("n1", ready=False), pinned("a", "n1")],
            State.FAILED,
            "is pinned to n1: n1 is not ready",
            id="the node fails after the pin",
        ),
        pytest.param(
            [node("n1"), pinned("a", "n1", gpus=4), pod("b", gpus=6, on="n1")],
            State.FAILED,
            "is pinned to n1: others took its room (2 GPUs short)",
            id="somebody takes the room after the pin",
        ),
        pytest.param(
            [node("n1", ready=False), pod("a", on="n1")],
            State.DONE,
            "runs on n1",
            id="a bound pod has arrived whatever its node does",
        ),
    ],
)
def test_bind(things: list[Node | Pod], state: State, message: str) -> None:
    """Each pass looks again at what the planner saw."""
    found = advance(plan(bind("a", "n1")), *things)

    assert told(found) == [f"Bind a {state}: {message}"]
    assert not found.todo
    phases = {State.DONE: Phase.COMPLETED, State.FAILED: Phase.FAILED}
    assert found.phase is phases.get(state, Phase.EXECUTING)


def test_pods_that_share_a_node_are_released_only_as_far_as_it_has_room() -> None:
    """Each release takes its room before the next one is judged."""
    made = plan(bind("a", "n1"), bind("b", "n1"), evict("v", "n1"))

    found = advance(made, node("n1"), pod("a", gpus=4), pod("b", gpus=4), pod("v", gpus=4, on="n1"))

    assert done(found) == ["release a to n1", "evict v from n1"]
    assert "Bind b Waiting: waits for room on n1" in told(found)


def test_a_gang_waits_until_there_is_room_for_all_of_it() -> None:
    """Half a gang on nodes is room wasted."""
    made = plan(bind("a", "n1", "g"), bind("b", "n2", "g"), evict("v", "n2"))
    full = pod("v", gpus=8, on="n2", terminating=True)

    found = advance(made, node("n1"), node("n2"), pod("a", gpus=8), pod("b", gpus=8), full)

    assert not found.todo
    after = advance(made, node("n1"), node("n2"), pod("a", gpus=8), pod("b", gpus=8))
    assert done(after) == ["release a to n1", "release b to n2"]


def test_a_gang_with_a_lost_home_is_not_released_at_all() -> None:
    """One pod that cannot go keeps the others, which a new plan places together."""
    made = plan(bind("a", "n1", "g"), bind("b", "n2", "g"), bind("c", "n1"))

    found = advance(made, node("n1"), pod("a"), pod("b"), pod("c"))

    assert done(found) == ["release c to n1"]
    assert told(found)[:2] == [
        "Bind a Waiting: waits for room on n1",
        "Bind b Failed: cannot go to n2: the node is gone",
    ]


def test_a_gang_that_was_interrupted_is_completed() -> None:
    """The operator may die between two patches."""
    made = plan(bind("a", "n1", "g"), bind("b", "n1", "g"))

    found = advance(made, node("n1"), pinned("a", "n1", gpus=4), pod("b", gpus=4))

    assert done(found) == ["release b to n1"]


# Victims.


def test_a_victim_is_asked_to_leave_and_its_room_is_awaited() -> None:
    """Nobody is released into room that is not free yet."""
    made = plan(bind("a", "n1"), evict("v", "n1"))

    found = advance(made, node("n1"), pod("a", gpus=8), pod("v", gpus=8, on="n1"))

    assert found.todo == (
        EvictPod(
            pod=key("v"),
            uid="uid-v",
            node=NodeName("n1"),
            because="it makes room for default/a",
        ),
    )
    assert told(found) == [
        "Evict v Waiting: is asked to leave n1",
        "Bind a Waiting: waits for room on n1",
    ]


@pytest.mark.parametrize(
    ("victim", "line"),
    [
        pytest.param(
            pod("v", on="n1", terminating=True),
            "Evict v Started: is leaving n1",
            id="one that is leaving is not asked again",
        ),
        pytest.param(pod("w"), "Evict v Done: has left its node", id="one that is gone is done"),
        pytest.param(
            replace(pod("v", on="n1"), uid="other"),
            "Evict v Done: has left its node",
            id="a namesake is not the victim",
        ),
        pytest.param(
            pod("v", on="n1", disruption=Disruption.FIXED),
            "Evict v Failed: may not be disturbed any more",
            id="one that may no longer be disturbed stays",
        ),
    ],
)
def test_victim(victim: Pod, line: str) -> None:
    """A step is checked again with fresh data before it is done."""
    found = advance(plan(evict("v", "n1")), node("n1"), victim)

    assert told(found) == [line]
    assert not found.todo


def test_a_pod_that_may_only_be_evicted_with_its_unit_since_the_plan_is_not_moved() -> None:
    """Its template was changed meanwhile: nobody makes it again."""
    moved = pod("v", on="n1", disruption=Disruption.EVICTABLE)

    found = advance(plan(move("v", "n1", "n2")), node("n1"), node("n2"), moved)

    assert not found.todo
    assert "Move v Failed: may not be moved any more" in told(found)


def test_only_so_many_victims_are_on_their_way_at_a_time() -> None:
    """The budget counts those that are leaving already."""
    made = plan(evict("u", "n1"), evict("v", "n1"), evict("w", "n1"))
    pods = [pod("u", on="n1", terminating=True), pod("v", on="n1"), pod("w", on="n1")]

    found = advance(made, node("n1"), *pods, max_parallel=2)

    assert done(found) == ["evict v from n1"]
    assert told(found)[2] == "Evict w Waiting: waits for its turn: 2 pods are on their way"


def test_moves_go_before_evictions_and_those_with_a_free_target_first() -> None:
    """The least harmful step comes first."""
    made = plan(evict("e", "n1"), move("m", "n1", "n2"), move("o", "n1", "n3"))
    pods = [
        pod("e", gpus=1, on="n1"),
        pod("m", gpus=4, on="n1"),
        pod("o", gpus=2, on="n1"),
        pod("x", gpus=6, on="n2", terminating=True),
    ]

    found = advance(made, node("n1"), node("n2"), node("n3"), *pods)

    assert done(found) == ["evict o from n1", "evict m from n1", "evict e from n1"]


@pytest.mark.parametrize(
    "things",
    [
        pytest.param([pod("a", gpus=8)], id="a home is gone"),
        pytest.param(
            [node("n2"), pod("a", gpus=8), pod("x", gpus=1, on="n2")],
            id="a home has been taken",
        ),
        pytest.param([node("n2")], id="a pod that waited is gone"),
    ],
)
def test_once_something_has_failed_nobody_else_is_disturbed(things: list[Node | Pod]) -> None:
    """The victim would go for a plan that cannot be completed."""
    made = plan(bind("a", "n2"), bind("b", "n1"), evict("v", "n1"))
    pods = [pod("b", gpus=8), pod("v", gpus=8, on="n1")]

    found = advance(made, node("n1"), *pods, *things)

    assert not found.todo
    assert "Evict v Waiting: stays: the plan can no longer be completed" in told(found)
    assert found.phase is Phase.FAILED


def test_nobody_leaves_for_a_home_that_would_not_be_large_enough() -> None:
    """Even with every victim gone, a stranger's 2 GPUs keep the 8-GPU pod away."""
    made = plan(bind("a", "n1"), evict("v", "n1"))
    pods = [pod("a", gpus=8), pod("v", gpus=6, on="n1"), pod("x", gpus=2, on="n1")]

    found = advance(made, node("n1"), *pods)

    assert not found.todo
    assert found.message == (
        "stopped: default/a cannot go to n1: others took its room (2 GPUs short); a new plan"
        " follows"
    )


@pytest.mark.parametrize(
    ("things", "why"),
    [
        pytest.param([], "the node is gone", id="gone"),
        pytest.param([node("n2", schedulable=False)], "n2 is cordoned", id="cordoned"),
        pytest.param(
            [node("n2"), pod("x", gpus=6, on="n2")],
            "others took its room (2 GPUs short)",
            id="full",
        ),
    ],
)
def test_nobody_is_moved_to_a_target_that_is_no_home_any_more(
    things: list[Node | Pod], why: str
) -> None:
    """The victim would be left without a place."""
    made = plan(move("m", "n1", "n2"))

    found = advance(made, node("n1"), pod("m", gpus=4, on="n1"), *things)

    assert not found.todo
    assert told(found) == [f"Move m Failed: cannot go to n2: {why}"]
    assert found.phase is Phase.FAILED


@pytest.mark.parametrize(
    ("made", "because"),
    [
        pytest.param(
            plan(evict("v", "n1"), bind("a", "n1"), bind("b", "n1")),
            "it makes room for default/a and 1 more",
            id="for two pods",
        ),
        pytest.param(
            plan(move("v", "n1", "n2"), bind("a", "n1")),
            "it makes room for default/a, and its replacement is planned on n2",
            id="a moved pod has another home",
        ),
        pytest.param(
            plan(move("v", "n1", "n2")),
            "it makes room for a better packing, and its replacement is planned on n2",
            id="a move that empties a node",
        ),
    ],
)
def test_a_victim_is_told_for_whom_it_leaves(made: Plan, because: str) -> None:
    """The event on the pod is what its owner gets to see."""
    pods = [pod("v", gpus=8, on="n1"), pod("a", gpus=4), pod("b", gpus=4)]

    found = advance(made, node("n1"), node("n2"), *pods)

    assert [step.because for step in found.todo if isinstance(step, EvictPod)] == [because]


# Replacements.


def test_a_move_waits_for_its_replacement_and_releases_it_to_the_target() -> None:
    """From eviction to arrival, pass by pass."""
    made = plan(move("m", "n1", "n2"))
    nodes = [node("n1"), node("n2")]
    new = replace(pod("m-2", owner="m"), created_at=5)

    asked = advance(made, *nodes, pod("m", on="n1"))
    leaving = advance(made, *nodes, pod("m", on="n1", terminating=True))
    gone = advance(made, *nodes)
    back = advance(made, *nodes, new)
    pin = replace(new, node=NodeName("n2"), waiting=False, bound=False, replaces="uid-m")
    on_its_way = advance(made, *nodes, pin)
    arrived = advance(made, *nodes, replace(pin, bound=True))

    assert done(asked) == ["evict m from n1"]
    assert told(asked) == ["Move m Waiting: is asked to leave n1"]
    assert told(leaving) == ["Move m Started: is leaving n1"]
    assert told(gone) == [
        "Move m Waiting: waits for ReplicaSet default/m to make a pod in its place"
    ]
    assert done(back) == ["release m-2 to n2 for uid-m"]
    assert told(on_its_way) == [
        "Move m Started: is pinned to n2; the scheduler binds it next",
    ]
    assert arrived.phase is Phase.COMPLETED


def test_a_replacement_that_comes_while_the_victim_leaves_is_released_at_once() -> None:
    """A ReplicaSet makes the new pod as soon as the old one is terminating."""
    pods = [pod("m", on="n1", terminating=True), pod("m-2", owner="m")]

    found = advance(plan(move("m", "n1", "n2")), node("n1"), node("n2"), *pods)

    assert done(found) == ["release m-2 to n2 for uid-m"]


def test_a_pod_that_waits_before_the_victim_has_left_is_no_replacement() -> None:
    """It came by scaling up; taking it would leave the real replacement without a home."""
    pods = [pod("m", on="n1"), pod("m-2", owner="m")]

    found = advance(plan(move("m", "n1", "n2")), node("n1"), node("n2"), *pods)

    assert done(found) == ["evict m from n1"]


def test_a_held_pod_of_the_same_owner_is_no_replacement() -> None:
    """The plan has decided on it already."""
    made = plan(move("m", "n1", "n2"), hold("m-0"))

    found = advance(made, node("n1"), node("n2"), pod("m-0", owner="m"))

    assert not found.todo


def test_a_replacement_of_an_inference_deployment_has_the_old_name() -> None:
    """Its other new pods may be of another pool and size."""
    owner = Owner(kind="InferenceDeployment", namespace="default", name="chat", uid="u")
    made = plan(move("chat-0-decode-0", "n1", "n2", owner))
    others = replace(pod("chat-1-prefill-0"), owner=owner)
    again = replace(pod("chat-0-decode-0"), owner=owner, uid="new", created_at=9)

    before = advance(made, node("n1"), node("n2"), others)
    after = advance(made, node("n1"), node("n2"), others, again)

    assert not before.todo
    assert done(after) == ["release chat-0-decode-0 to n2 for uid-chat-0-decode-0"]


def test_two_moves_of_one_owner_take_two_replacements() -> None:
    """The oldest newcomer goes to the first target."""
    owner = Owner(kind="ReplicaSet", namespace="default", name="m", uid="m")
    made = plan(move("m-1", "n1", "n2", owner), move("m-2", "n1", "n3", owner))
    new = [replace(pod(f"new-{i}", owner="m"), created_at=i) for i in (2, 1)]

    found = advance(made, node("n1"), node("n2"), node("n3"), *new)

    assert done(found) == ["release new-1 to n2 for uid-m-1", "release new-2 to n3 for uid-m-2"]


def test_a_replacement_whose_target_was_taken_waits_for_a_new_plan() -> None:
    """It goes on waiting behind its gate."""
    made = plan(move("m", "n1", "n2"))
    pods = [pod("m-2", gpus=4, owner="m"), pod("x", gpus=6, on="n2")]

    found = advance(made, node("n1"), node("n2"), *pods)

    assert found.phase is Phase.FAILED
    assert told(found) == [
        "Move m Failed: m-2 cannot go to n2: others took its room (2 GPUs short) in its place"
    ]


def test_a_replacement_that_never_comes_does_not_hold_up_the_plan() -> None:
    """Its owner was scaled down meanwhile."""
    made = plan(move("m", "n1", "n2"))

    found = advance(made, node("n1"), node("n2"), idle_s=steps.REPLACEMENT_GRACE_S)

    assert found.phase is Phase.COMPLETED
    assert told(found) == ["Move m Done: left, and nothing was made in its place"]


# Ends.


def test_a_plan_that_only_holds_is_completed_at_once() -> None:
    """There is nothing to carry out."""
    found = advance(plan(hold("a"), hold("b"), hold("c")))

    assert (found.phase, found.message) == (
        Phase.COMPLETED,
        "nothing to do; 3 pods are held",
    )
    assert advance(plan(hold("a"))).message == "nothing to do; 1 pod is held"


def test_a_failed_plan_ends_only_when_what_has_begun_is_finished() -> None:
    """A pod that is leaving has its replacement to come."""
    made = plan(bind("a", "gone"), evict("v", "n1"))

    begun = advance(made, node("n1"), pod("a"), pod("v", on="n1", terminating=True))
    ended = advance(made, node("n1"), pod("a"))

    assert begun.phase is Phase.EXECUTING
    assert ended.phase is Phase.FAILED


@pytest.mark.parametrize(
    ("things", "idle_s", "phase"),
    [
        pytest.param(
            [pod("v", gpus=8, on="n1")],
            steps.STALL_S,
            Phase.FAILED,
            id="a victim that is never let go fails the plan",
        ),
        pytest.param(
            [pod("v", gpus=8, on="n1")],
            steps.STALL_S - 1,
            Phase.EXECUTING,
            id="it is given time",
        ),
        pytest.param(
            [pod("v", gpus=8, on="n1", terminating=True)],
            steps.STALL_S,
            Phase.EXECUTING,
            id="a victim that drains is given more time",
        ),
        pytest.param(
            [pod("x", gpus=8, on="n1", terminating=True)],
            steps.LEAVING_STALL_S,
            Phase.FAILED,
            id="not for ever",
        ),
    ],
)
def test_a_plan_that_makes_no_progress_gives_way(
    things: list[Pod], idle_s: float, phase: Phase
) -> None:
    """A plan at work keeps the planner from making a better one."""
    made = plan(bind("a", "n1"), evict("v", "n1"))

    found = advance(made, node("n1"), pod("a", gpus=8), *things, idle_s=idle_s)

    assert found.phase is phase


@pytest.mark.parametrize(
    ("made", "things", "phase"),
    [
        pytest.param(
            plan(bind("a", "n1")),
            [pinned("a", "n1", gpus=4)],
            Phase.FAILED,
            id="who is pinned has its room",
        ),
        pytest.param(
            plan(bind("a", "n1")), [pod("a", gpus=4)], Phase.FAILED, id="its home has room"
        ),
        pytest.param(
            plan(bind("a", "n2"), evict("v", "n2"), bind("b", "n1")),
            [pod("a", gpus=8), pod("v", gpus=8, on="n2"), pod("b", gpus=4, on="n1")],
            Phase.FAILED,
            id="a victim elsewhere does not go",
        ),
        pytest.param(
            plan(bind("a", "n1")), [pod("a", gpus=5)], Phase.EXECUTING, id="its room is needed"
        ),
        pytest.param(
            plan(move("m", "n2", "n1")),
            [pod("m-2", gpus=5, owner="m")],
            Phase.EXECUTING,
            id="its room is needed for a replacement",
        ),
    ],
)
def test_a_stranger_that_does_not_end_is_waited_for_only_where_its_room_is_needed(
    made: Plan, things: list[Pod], phase: Phase
) -> None:
    """Seen: it kept a plan that nobody carried out at work for a quarter of an hour."""
    stuck = pod("x", gpus=4, on="n1", terminating=True)

    found = advance(made, node("n1"), node("n2"), stuck, *things, idle_s=steps.STALL_S)

    assert found.phase is phase


def test_a_victim_that_will_not_end_fails_the_plan() -> None:
    """Seen: the plan stayed Executing for ever, and nobody it covered was planned again."""
    made = plan(bind("a", "n1"), evict("v", "n1"))
    stuck = pod("v", gpus=8, on="n1", terminating=True)

    found = advance(made, node("n1"), pod("a", gpus=8), stuck, idle_s=steps.LEAVING_STALL_S)

    assert found.phase is Phase.FAILED
    assert "Evict v Failed: does not end on n1: look at its finalizers" in told(found)


def test_a_release_that_is_refused_for_ever_fails_the_plan() -> None:
    """Seen: a patch that an admission policy refuses kept the plan Executing."""
    found = advance(plan(bind("a", "n1")), node("n1"), pod("a"), idle_s=steps.STALL_S)

    assert (found.phase, done(found)) == (Phase.FAILED, [])


@pytest.mark.parametrize(
    "newcomer",
    [
        pytest.param(pod("a", gpus=4), id="its home has come free by itself"),
        pytest.param(pod("a", gpus=4, on="n1"), id="it has its home already"),
    ],
)
def test_nobody_leaves_for_a_newcomer_that_has_room_without(newcomer: Pod) -> None:
    """Seen: a victim whose budget refused it for a minute was evicted when nobody needed it."""
    made = plan(bind("a", "n1"), evict("v", "n1"))

    found = advance(made, node("n1"), newcomer, pod("v", gpus=4, on="n1"))

    assert "evict v from n1" not in done(found)
    assert f"Evict v Done: {steps.SPARED}" in told(found)


def test_a_victim_is_not_spared_for_room_when_somebody_is_kept_apart() -> None:
    """The newcomer would be pinned beside the pod that it excludes, and never bound."""
    shy = pod("a", gpus=1, constraints=apart("host", app="x"))
    victim = pod("v", gpus=1, on="n1", labels={"app": "x"})
    found = advance(plan(bind("a", "n1"), evict("v", "n1")), node("n1"), shy, victim)

    assert "evict v from n1" in done(found)


def test_a_move_that_is_spared_spares_whom_it_would_have_displaced() -> None:
    """A chain of moves would go on although its first link is not needed."""
    made = plan(bind("a", "n1"), move("v", "n1", "n2"), evict("w", "n2"))
    things = [pod("a", gpus=4), pod("v", gpus=4, on="n1"), pod("w", gpus=8, on="n2")]

    found = advance(made, node("n1"), node("n2"), *things)

    assert done(found) == ["release a to n1"]


#: Gang g runs on two nodes, and the room of va is for the pod a.
GANG_PLAN = plan(bind("a", "n1"), evict("va", "n1", "g"), evict("vb", "n2", "g"))
VA = pod("va", gpus=4, on="n1", gang="g", min_count=2)
VB = pod("vb", gpus=8, on="n2", gang="g", min_count=2)


def test_a_gang_is_spared_whole() -> None:
    """Seen: a stranger ended, va stayed, and vb was evicted although nobody needed its room."""
    found = advance(GANG_PLAN, node("n1"), node("n2"), VA, VB, pod("a", gpus=4))

    assert done(found) == ["release a to n1"]
    assert told(found)[:2] == [f"Evict {name} Done: {steps.SPARED}" for name in ("va", "vb")]


@pytest.mark.parametrize(
    "others",
    [
        pytest.param([pod("a", gpus=8)], id="its homes are there"),
        pytest.param([], id="its homes are gone"),
    ],
)
@pytest.mark.parametrize(
    "va", [[], [replace(VA, terminating=True)]], ids=["one has left", "one is leaving"]
)
def test_a_gang_that_has_begun_to_leave_goes_whole(others: list[Pod], va: list[Pod]) -> None:
    """Seen: the newcomer was deleted in between, and half the gang stayed, of use to nobody."""
    found = advance(GANG_PLAN, node("n1"), node("n2"), VB, *va, *others, max_parallel=1)

    assert "evict vb from n2" in done(found)
    assert found.phase is Phase.EXECUTING


def test_the_rest_of_a_gang_is_asked_for_alone() -> None:
    """A budget that refuses another victim of the pass would keep it, half of it gone."""
    made = plan(*GANG_PLAN.binds, *GANG_PLAN.evictions, evict("u", "n3"))
    nodes = [node(name) for name in ("n1", "n2", "n3")]

    found = advance(made, *nodes, VB, pod("u", on="n3"), pod("a", gpus=8))

    assert done(found) == ["release a to n1", "evict vb from n2"]


def test_a_gang_of_which_one_may_not_be_disturbed_any_more_stays_whole() -> None:
    """Nobody of it has begun to leave."""
    fixed = replace(VB, disruption=Disruption.FIXED)

    found = advance(GANG_PLAN, node("n1"), node("n2"), VA, fixed, pod("a", gpus=8))

    assert (done(found), found.phase) == ([], Phase.FAILED)


@pytest.mark.parametrize(
    ("on_their_way", "asked"),
    [
        pytest.param(0, ["evict va from n1", "evict vb from n2"], id="nobody is on the way"),
        pytest.param(1, [], id="the rest of the limit is too small for it"),
    ],
)
def test_a_gang_larger_than_the_limit_goes_whole_in_its_turn(
    on_their_way: int, asked: list[str]
) -> None:
    """Member by member, every stop of the plan would find half of it gone."""
    made = plan(*GANG_PLAN.binds, *GANG_PLAN.evictions, evict("u", "n3"))
    u = pod("u", on="n3", terminating=bool(on_their_way))
    nodes = [node(name) for name in ("n1", "n2", "n3")]

    found = advance(made, *nodes, VA, VB, u, pod("a", gpus=8), max_parallel=1)

    assert done(found) == asked


def test_a_gang_is_not_spared_when_somebody_is_kept_apart_from_a_member_elsewhere() -> None:
    """The room is there, but a pod on another node of the zone may be what is in the way."""
    shy = pod("a", gpus=4, constraints=apart("zone", app="x"))

    found = advance(GANG_PLAN, node("n1"), node("n2"), VA, VB, shy)

    assert {"evict va from n1", "evict vb from n2"} <= set(done(found))


def test_a_pin_that_the_scheduler_ignores_fails_the_plan() -> None:
    """The scheduler may know a reason that the plan does not."""
    found = advance(plan(bind("a", "n1")), node("n1"), pinned("a", "n1"), idle_s=steps.STALL_S)

    assert found.message == (
        "stopped: default/a is pinned to n1, but the scheduler does not bind it; a new plan follows"
    )


def test_nodes_of_a_plan_are_those_it_touches() -> None:
    """The operator reads these and no others."""
    made = plan(bind("a", "n1"), move("m", "n2", "n3"), evict("v", "n4"), hold("h"))

    assert steps.nodes_of(made) == {"n1", "n2", "n3", "n4"}


# Victims that serve finish their requests first.

SERVES = Farewell()
BUSY = Farewell(begun=True, yields=True, ends_by=1_780_000_000, left_s=200)
IDLE = Farewell(begun=True, over=True, yields=True, ends_by=1_780_000_000)

SCENE = (node("n1"), pod("a", gpus=8), pod("v", gpus=8, on="n1"))
MADE = plan(bind("a", "n1"), evict("v", "n1"))


def test_a_victim_that_serves_is_taken_out_of_service_and_not_evicted() -> None:
    """Its requests would be cut off."""
    found = advance(MADE, *SCENE, farewells={"v": SERVES})

    assert done(found) == ["drain v"]
    assert told(found) == [
        "Evict v Waiting: is to finish its requests before it leaves",
        "Bind a Waiting: waits for room on n1",
    ]


def test_a_victim_that_drains_is_left_alone_and_says_until_when() -> None:
    """Somebody who looks at the plan wants to know how long that may take."""
    found = advance(MADE, *SCENE, farewells={"v": BUSY})

    assert done(found) == []
    assert found.patient, "that is no standstill"
    assert told(found)[0] == (
        "Evict v Draining: finishes its requests before it leaves, until 20:26:40 UTC at most"
        " (4 min more)"
    )
    assert found.phase is Phase.EXECUTING


def test_a_victim_with_no_requests_left_is_evicted() -> None:
    """The drain is over."""
    found = advance(MADE, *SCENE, farewells={"v": IDLE})

    assert done(found) == ["evict v from n1"]
    assert told(found)[0] == "Evict v Waiting: is asked to leave n1"


def test_a_victim_that_serves_still_does_not_count_as_draining() -> None:
    """Where its budget keeps it, the plan would go on for ever."""
    assert not advance(MADE, *SCENE, farewells={"v": SERVES}).patient


def test_a_victim_that_serves_and_cannot_be_drained_does_not_keep_a_plan_for_ever() -> None:
    """Its budget admits nobody: it stays in service, and the plan gives up."""
    found = advance(MADE, *SCENE, farewells={"v": SERVES}, idle_s=steps.STALL_S)

    assert (found.phase, done(found)) == (Phase.FAILED, [])


def test_a_gang_drains_and_leaves_as_a_whole() -> None:
    """Decode pods get requests from prefill pods until the last one is done."""
    made = plan(bind("a", "n1"), *(evict(name, "n1", "g") for name in "uvw"))
    gang = [pod(name, gpus=2, on="n1", gang="g") for name in "uvw"]
    things: list[Node | Pod] = [node("n1"), pod("a", gpus=6), *gang]

    begun = advance(made, *things, farewells={"u": SERVES, "v": IDLE, "w": Farewell(over=True)})
    busy = advance(made, *things, farewells={"u": BUSY, "v": IDLE})
    over = advance(made, *things, farewells={"u": IDLE, "v": IDLE})

    assert done(begun) == ["drain u"]
    assert {report.state for report in busy.reports if report.type == "Evict"} == {State.DRAINING}
    assert done(busy) == []
    assert done(over) == [f"evict {name} from n1" for name in "uvw"]


def test_what_is_left_of_a_gang_finishes_its_requests_too() -> None:
    """One of it has left by itself; nothing keeps the others, but their requests."""
    made = plan(bind("a", "n1"), bind("lost", "n1"), *(evict(name, "n1", "g") for name in "uv"))
    things = (node("n1"), pod("a", gpus=6), pod("v", gpus=4, on="n1", gang="g"))

    found = advance(made, *things, farewells={"v": SERVES})
    busy = advance(made, *things, farewells={"v": BUSY})

    assert done(found) == ["drain v"]
    assert (busy.phase, done(busy)) == (Phase.EXECUTING, [])


def test_who_drains_counts_among_those_on_their_way() -> None:
    """`maxParallelMoves` bounds how many pods serve nobody at a time."""
    made = plan(*(move(name, "n1", "n2") for name in "uv"))
    pods = [pod(name, gpus=4, on="n1") for name in "uv"]
    things: list[Node | Pod] = [node("n1"), node("n2"), *pods]

    first = advance(made, *things, max_parallel=1, farewells={"u": SERVES, "v": SERVES})
    then = advance(made, *things, max_parallel=1, farewells={"u": BUSY, "v": SERVES})
    over = advance(made, *things, max_parallel=1, farewells={"u": SERVES, "v": IDLE})

    assert done(first) == ["drain u"]
    assert done(then) == []
    assert told(then)[1] == "Move v Waiting: waits for its turn: 1 pods are on their way"
    assert done(over) == ["evict v from n1"], "whoever drained is not made to wait"


def test_the_room_of_who_drains_is_given_to_nobody() -> None:
    """It still runs there."""
    found = advance(MADE, *SCENE, pod("b", gpus=8), farewells={"v": IDLE})

    assert not any(isinstance(step, ReleasePod) for step in found.todo)


def test_who_drains_in_vain_is_put_back_into_service() -> None:
    """Its room is not needed any more."""
    things = (node("n1"), pod("a", gpus=4), pod("v", gpus=4, on="n1"))

    found = advance(MADE, *things, farewells={"v": BUSY})

    assert done(found) == ["release a to n1", "serve v"]
    assert told(found)[0] == f"Evict v Done: {steps.SPARED}"


def test_who_drains_for_a_plan_that_fails_is_put_back_into_service() -> None:
    """Nobody is disturbed in vain, and putting it back keeps no plan open."""
    found = advance(MADE, node("n1"), pod("v", gpus=8, on="n1"), farewells={"v": BUSY})

    assert done(found) == ["serve v"]
    assert found.phase is Phase.FAILED


def test_who_drains_because_its_unit_is_to_go_is_not_put_back_for_a_plan_that_fails() -> None:
    """That is for the deployment to say."""
    drains = replace(BUSY, yields=False)

    found = advance(MADE, node("n1"), pod("v", gpus=8, on="n1"), farewells={"v": drains})

    assert done(found) == []


# A small cluster in which things happen in any order.


@dataclass
class World:
    """A cluster that does what it is told, late, while strangers come and nodes go.

    `requests` are the rounds that a serving pod needs to finish its requests, by uid; `draining`
    the rounds that those still need which are out of service.
    """

    nodes: dict[str, Node]
    pods: dict[PodKey, Pod]
    requests: dict[str, int] = field(default_factory=dict)
    draining: dict[str, int] = field(default_factory=dict)
    clock: int = 0
    owed: list[Pod] = field(default_factory=list)
    evicted: list[str] = field(default_factory=list)

    def snapshot(self) -> Snapshot:
        """Return the cluster as it is now."""
        return Snapshot.of(self.nodes.values(), self.pods.values())

    def do(self, step: Step) -> None:
        """Do one step as the API server would: only for the pod with that uid."""
        found = self.pods.get(step.pod)
        if found is None or found.uid != step.uid:
            return
        if isinstance(step, DrainPod):
            assert found.uid not in self.draining, "drained twice"
            self.draining[found.uid] = self.requests[found.uid]
        elif isinstance(step, ServePod):
            del self.draining[found.uid]
        elif isinstance(step, EvictPod):
            assert self.farewell(found.uid).over, "evicted while it serves"
            self.evicted.append(found.uid)
            self.pods[step.pod] = replace(found, terminating=True)
        else:
            assert isinstance(step, ReleasePod)
            assert found.waiting, "released twice"
            self.pods[step.pod] = replace(
                found, node=step.node, waiting=False, bound=False, replaces=step.replaces
            )

    def farewell(self, uid: str) -> Farewell:
        """Return how far a pod is; nobody has to wait for one that never serves."""
        if uid not in self.draining:
            return Farewell(over=uid not in self.requests)
        return Farewell(begun=True, over=not self.draining[uid], yields=True)

    def farewells(self) -> Mapping[str, Farewell]:
        """Return how far the pods are that may serve."""
        return {uid: self.farewell(uid) for uid in self.requests}

    def finish(self) -> None:
        """Let a round of requests be done."""
        self.draining = {uid: max(0, n - 1) for uid, n in self.draining.items()}

    def bind(self, key: PodKey) -> None:
        """Bind a pinned pod if its node has room, as kube-scheduler does."""
        found = self.pods[key]
        if found.node in self.nodes and not found.terminating:
            self.pods[key] = replace(found, bound=True)

    def end(self, key: PodKey) -> None:
        """Let a terminating pod be gone; its owner makes another one some time."""
        found = self.pods.pop(key)
        if found.owner is not None:
            self.owed.append(found)

    def repay(self) -> None:
        """Let an owner make the oldest owed pod again, gated."""
        old = self.owed.pop(0)
        self.clock += 1
        name = f"{old.key.name}-again" if old.owner and old.owner.kind == "ReplicaSet" else ""
        new = replace(
            old,
            key=old.key._replace(name=name or old.key.name),
            uid=f"{old.uid}-again{self.clock}",
            node=None,
            waiting=True,
            terminating=False,
            replaces="",
            created_at=self.clock,
        )
        self.pods[new.key] = new

    def intrude(self, name: NodeName, gpus: int) -> None:
        """Let a stranger's pod take room, if there is some (the default scheduler checks)."""
        stranger = pod(f"stranger-{len(self.pods)}-{self.clock}", gpus=gpus, on=name)
        self.clock += 1
        bound = Snapshot.of(self.nodes.values(), [p for p in self.pods.values() if p.bound])
        if stranger.requests.fits(bound.free()[name]):
            self.pods[stranger.key] = replace(stranger, disruption=Disruption.FIXED, owner=None)


NODES = ("n1", "n2", "n3")


@st.composite
def scenes(draw: st.DrawFn) -> tuple[World, Plan]:
    """Return a cluster and a plan that was right when it was made."""
    nodes = {name: node(name) for name in NODES}
    pods: dict[PodKey, Pod] = {}
    actions: list[Bind | Move | Evict] = []
    free = dict.fromkeys(NODES, 8)  # in the end, with every victim gone and every home taken
    now = dict.fromkeys(NODES, 8)  # at the start
    for i in range(draw(st.integers(0, 6))):
        source, gpus = draw(st.sampled_from(NODES)), draw(st.sampled_from([1, 2, 4]))
        if now[source] < gpus:
            continue
        now[source] -= gpus
        fate = draw(st.sampled_from(["stay", "evict", "move"]))
        gang = draw(st.sampled_from([None, "x", "y"])) if fate == "evict" else None
        made = pod(f"v{i}", gpus=gpus, on=source, gang=gang, min_count=2 if gang else 0)
        pods[made.key] = made
        targets = [name for name in NODES if name != source and free[name] >= gpus]
        if fate == "stay" and free[source] >= gpus:
            free[source] -= gpus
        elif fate == "evict" or not targets:
            actions.append(evict(f"v{i}", source, gang))
        else:
            target = draw(st.sampled_from(targets))
            free[target] -= gpus
            actions.append(move(f"v{i}", source, target, made.owner))
    for i in range(draw(st.integers(0, 6))):
        home, gpus = draw(st.sampled_from(NODES)), draw(st.sampled_from([1, 2, 4, 8]))
        gang = draw(st.sampled_from([None, "g", "h"]))
        if free[home] >= gpus:
            free[home] -= gpus
            made = pod(f"w{i}", gpus=gpus, gang=gang, min_count=1, priority=9)
            pods[made.key] = made
            actions.append(bind(f"w{i}", home, gang))
    lengths = st.none() | st.integers(0, 6)
    drawn = {p.uid: draw(lengths) for p in pods.values() if p.node}
    requests = {uid: n for uid, n in drawn.items() if n is not None}
    return World(nodes=nodes, pods=pods, requests=requests), plan(*actions)


HAPPENINGS = st.lists(
    st.sampled_from(["bind", "end", "repay", "intrude", "lose", "leave", "finish", "serve"]),
    max_size=12,
)


def happen(world: World, what: str, draw: st.DataObject) -> None:
    """Let one thing happen in the cluster."""
    pods = sorted(world.pods.values(), key=lambda p: p.key)
    ready = {
        "bind": [p.key for p in pods if p.node is not None and not p.bound],
        "end": [p.key for p in pods if p.terminating],
    }
    if ready.get(what):
        chosen = draw.draw(st.sampled_from(ready[what]))
        (world.bind if what == "bind" else world.end)(chosen)
    elif what == "leave" and pods:
        del world.pods[draw.draw(st.sampled_from(pods)).key]  # deleted, or its work is done
    elif what == "finish":
        world.finish()
    elif what == "serve":
        world.draining = {}  # somebody put them back, or the operator has forgotten them
    elif what == "repay" and world.owed:
        world.repay()
    elif what == "intrude" and world.nodes:
        chosen_node = draw.draw(st.sampled_from(sorted(world.nodes)))
        world.intrude(NodeName(chosen_node), draw.draw(st.integers(1, 4)))
    elif what == "lose" and len(world.nodes) > 1:
        lost = draw.draw(st.sampled_from(sorted(world.nodes)))
        del world.nodes[lost]
        gone = [k for k, p in world.pods.items() if p.node == lost and p.bound]
        for k in gone:
            world.end(k)


def overcommitted(world: World) -> Mapping[NodeName, Resources]:
    """Return nodes on which the pods we placed do not fit beside what was bound before them."""
    return {
        name: room
        for name, room in world.snapshot().free().items()
        if any(n < 0 for _, n in room.items)
    }


def rounds(world: World, made: Plan, trouble: st.DataObject | None) -> Iterator[Progress]:
    """Carry the plan out, letting things happen in between; settle down after some rounds."""
    idle_s, last = 0, None
    for turn in range(100):
        look = partial(
            steps.advance,
            made,
            world.snapshot(),
            Policy(max_parallel_moves=2),
            farewells=world.farewells(),
        )
        now = look(idle_s=0)
        states = [(r.pod, r.state) for r in now.reports]
        still = states == last and not now.patient
        idle_s, last = idle_s + 20 if still else 0, states
        found = look(idle_s=idle_s)
        yield found
        if found.phase is not Phase.EXECUTING:
            return
        if trouble is not None and turn < 6:  # shorter than a standstill from whatever happens
            # The operator may die, or be refused, between two steps.
            for step in found.todo[: trouble.draw(st.integers(0, len(found.todo)))]:
                world.do(step)
            for what in trouble.draw(HAPPENINGS):
                happen(world, what, trouble)
        else:
            for step in found.todo:
                world.do(step)
            settle(world)


def settle(world: World) -> None:
    """Let everything that is on its way arrive."""
    world.finish()
    for k in [k for k, p in world.pods.items() if p.terminating]:
        world.end(k)
    free = world.snapshot().free()
    for k in [k for k, p in world.pods.items() if p.node is not None and not p.bound]:
        name = world.pods[k].node
        if name in free and world.pods[k].requests.fits(free[name] + world.pods[k].requests):
            world.bind(k)
    while world.owed:
        world.repay()


@given(scene=scenes())
@settings(max_examples=300, deadline=None)
def test_undisturbed_a_plan_is_carried_out_as_it_is(scene: tuple[World, Plan]) -> None:
    """Every home taken, every victim gone or spared, no node over-committed, nobody else moved."""
    world, made = scene
    for found in rounds(world, made, None):
        assert not overcommitted(world)
        assert all(r.state is not State.FAILED for r in found.reports), told(found)

    assert found.phase is Phase.COMPLETED
    homes = {p.uid: p.node for p in world.pods.values() if p.bound}
    assert all(homes[b.uid] == b.node for b in made.binds)
    landed = {p.replaces: p.node for p in world.pods.values() if p.replaces}
    assert landed == {m.uid: m.target for m in made.moves if m.uid in world.evicted}
    spared = {f"uid-{r.pod.name}" for r in found.reports if r.message == steps.SPARED}
    victims = {m.uid for m in made.moves} | {e.uid for e in made.evictions}
    assert sorted(world.evicted) == sorted(victims - spared)
    _do_all(world, found)
    assert not _out_of_service(world), "somebody stays out of service"


@given(scene=scenes(), trouble=st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_happens_a_plan_ends_and_harms_nobody_in_vain(
    scene: tuple[World, Plan], trouble: st.DataObject
) -> None:
    """Nodes are lost, strangers take room, pods end, owners are slow, bindings come late."""
    world, made = scene
    victims = {m.uid for m in made.moves} | {e.uid for e in made.evictions}
    failed = False
    for found in rounds(world, made, trouble):
        failed = failed or any(r.state is State.FAILED for r in found.reports)
        _check_todo(world, found)
        _check_gangs(made, found)
        if any(r.state is State.FAILED for r in found.reports):
            evicted = {s.uid for s in found.todo if isinstance(s, EvictPod)}
            assert evicted <= _of_gangs_that_have_begun(world, made), told(found)

    _do_all(world, found)
    failed_here = {f"uid-{r.pod.name}" for r in found.reports if r.state is State.FAILED}
    assert _out_of_service(world) <= failed_here, "somebody drained stays out of service"
    for gang in {e.gang for e in made.evictions if e.gang}:
        mine = [e for e in made.evictions if e.gang == gang]
        assert sum(_has_begun(world, e) for e in mine) in {0, len(mine)}, "half a gang is left"
    assert found.phase in {Phase.COMPLETED, Phase.FAILED}
    assert (found.phase is Phase.FAILED) <= failed
    assert set(world.evicted) <= victims
    assert len(world.evicted) == len(set(world.evicted))


def _do_all(world: World, found: Progress) -> None:
    """Do the last steps of a plan."""
    for step in found.todo:
        world.do(step)


def _out_of_service(world: World) -> set[str]:
    """Return the uids of pods that run, and were taken out of service."""
    return {p.uid for p in world.pods.values() if p.uid in world.draining and not p.terminating}


def _has_begun(world: World, victim: Evict) -> bool:
    """Return whether a victim has left its node, or is leaving it."""
    found = world.pods.get(victim.pod)
    return found is None or found.uid != victim.uid or found.terminating


def _of_gangs_that_have_begun(world: World, made: Plan) -> set[str]:
    """Return the uids of victims that follow others of their gang."""
    begun = {e.gang for e in made.evictions if _has_begun(world, e)} - {None}
    return {e.uid for e in made.evictions if e.gang in begun}


def _check_todo(world: World, found: Progress) -> None:
    """Assert that what is released fits in the room that is free at that moment."""
    free = world.snapshot().free()
    for step in found.todo:
        if isinstance(step, ReleasePod):
            asks = world.pods[step.pod].requests
            assert asks.fits(free[step.node]), told(found)
            free[step.node] = free[step.node] - asks


def _check_gangs(made: Plan, found: Progress) -> None:
    """Assert that whoever of a gang still waits is released together."""
    released = {step.uid for step in found.todo if isinstance(step, ReleasePod)}
    states = {r.pod: r.state for r in found.reports if r.type == "Bind"}
    for gang in {b.gang for b in made.binds if b.gang}:
        mine = [b for b in made.binds if b.gang == gang]
        if any(b.uid in released for b in mine):
            assert all(states[b.pod] in {State.STARTED, State.DONE} for b in mine), told(found)
