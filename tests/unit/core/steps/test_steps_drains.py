"""Carrying out a plan step by step: victims that serve finish their requests first."""

from dataclasses import replace

from bayplan import steps
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.inference.drains import DrainState
from bayplan.steps import DrainPod, Phase, ReleasePod, State
from tests.builders import node, pod
from tests.scenes.steps import BUSY, IDLE, SERVES, advance, bind, done, evict, move, plan, told

SCENE = (node("n1"), pod("a", gpus=8), pod("v", gpus=8, on="n1"))
MADE = plan(bind("a", "n1"), evict("v", "n1"))


def test_a_victim_that_serves_is_taken_out_of_service_and_not_evicted() -> None:
    """Its requests would be cut off."""
    found = advance(MADE, *SCENE, drains={"v": SERVES})

    (step,) = found.todo
    assert isinstance(step, DrainPod)
    assert (step.pod.name, step.because) == ("v", "it makes room for default/a")
    assert told(found) == [
        "Evict v Waiting: is to finish its requests before it leaves",
        "Bind a Waiting: waits for room on n1, which default/v is to leave first",
    ]


def test_a_victim_that_drains_is_left_alone_and_says_until_when() -> None:
    """Somebody who looks at the plan wants to know how long that may take."""
    found = advance(MADE, *SCENE, drains={"v": BUSY})

    assert done(found) == []
    assert found.patient, "that is no standstill"
    assert told(found)[0] == (
        "Evict v Draining: finishes its requests before it leaves, until 20:26:40 UTC at most"
        " (4 min more)"
    )
    assert found.phase is Phase.EXECUTING


def test_a_victim_with_no_requests_left_is_evicted() -> None:
    """The drain is over."""
    found = advance(MADE, *SCENE, drains={"v": IDLE})

    assert done(found) == ["evict v from n1"]
    assert told(found)[0] == "Evict v Waiting: is asked to leave n1"


def test_a_victim_that_serves_still_does_not_count_as_draining() -> None:
    """Where its budget keeps it, the plan would go on for ever."""
    assert not advance(MADE, *SCENE, drains={"v": SERVES}).patient


def test_a_victim_that_serves_and_cannot_be_drained_does_not_keep_a_plan_for_ever() -> None:
    """Its budget admits nobody: it stays in service, and the plan gives up."""
    found = advance(MADE, *SCENE, drains={"v": SERVES}, idle_s=steps.STALL_S)

    assert (found.phase, done(found)) == (Phase.FAILED, [])


def test_a_gang_drains_and_leaves_as_a_whole() -> None:
    """Decode pods get requests from prefill pods until the last one is done."""
    made = plan(bind("a", "n1"), *(evict(name, "n1", "g") for name in "uvw"))
    gang = [pod(name, gpus=2, on="n1", gang="g") for name in "uvw"]
    things: list[Node | Pod] = [node("n1"), pod("a", gpus=6), *gang]

    begun = advance(made, *things, drains={"u": SERVES, "v": IDLE, "w": DrainState(over=True)})
    busy = advance(made, *things, drains={"u": BUSY, "v": IDLE})
    over = advance(made, *things, drains={"u": IDLE, "v": IDLE})

    assert done(begun) == ["drain u"]
    assert {report.state for report in busy.reports if report.type == "Evict"} == {State.DRAINING}
    assert done(busy) == []
    assert done(over) == [f"evict {name} from n1" for name in "uvw"]


def test_what_is_left_of_a_gang_finishes_its_requests_too() -> None:
    """One of it has left by itself; nothing keeps the others, but their requests."""
    made = plan(bind("a", "n1"), bind("lost", "n1"), *(evict(name, "n1", "g") for name in "uv"))
    things = (node("n1"), pod("a", gpus=6), pod("v", gpus=4, on="n1", gang="g"))

    found = advance(made, *things, drains={"v": SERVES})
    busy = advance(made, *things, drains={"v": BUSY})

    assert done(found) == ["drain v"]
    assert (busy.phase, done(busy)) == (Phase.EXECUTING, [])


def test_who_drains_counts_among_those_on_their_way() -> None:
    """`maxParallelMoves` bounds how many pods serve nobody at a time."""
    made = plan(*(move(name, "n1", "n2") for name in "uv"))
    pods = [pod(name, gpus=4, on="n1") for name in "uv"]
    things: list[Node | Pod] = [node("n1"), node("n2"), *pods]

    first = advance(made, *things, max_parallel=1, drains={"u": SERVES, "v": SERVES})
    then = advance(made, *things, max_parallel=1, drains={"u": BUSY, "v": SERVES})
    over = advance(made, *things, max_parallel=1, drains={"u": SERVES, "v": IDLE})

    assert done(first) == ["drain u"]
    assert done(then) == []
    assert told(then)[1] == "Move v Waiting: waits for its turn: 1 pod is on its way"
    assert done(over) == ["evict v from n1"], "whoever drained is not made to wait"


def test_who_still_leaves_for_a_plan_before_counts_among_those_on_their_way() -> None:
    """Plans that overtake each other would take any number of pods out at a time."""
    made = plan(move("u", "n1", "n2"))
    things: list[Node | Pod] = [node("n1"), node("n2"), pod("u", gpus=4, on="n1")]

    full = advance(made, *things, max_parallel=2, stragglers=(30, 60))
    free = advance(made, *things, max_parallel=2, stragglers=(30,))

    assert (done(full), full.patient) == ([], True)
    assert told(full) == ["Move u Waiting: waits for its turn: 2 pods are on their way"]
    assert done(free) == ["evict u from n1"]


def test_a_gang_of_which_one_drains_counts_as_a_whole() -> None:
    """All of it leaves together."""
    made = plan(bind("a", "n1"), *(evict(name, "n1", "g") for name in "uv"), evict("w", "n1"))
    gang = [pod(name, gpus=2, on="n1", gang="g") for name in "uv"]
    things: list[Node | Pod] = [
        *(node("n1"), pod("a", gpus=8)),
        *(*gang, pod("w", gpus=4, on="n1")),
    ]

    found = advance(made, *things, max_parallel=2, drains={"u": BUSY, "v": IDLE})

    assert done(found) == []
    assert "Evict w Waiting: waits for its turn: 2 pods are on their way" in told(found)


def test_a_gang_of_which_one_drains_is_on_its_way_before_the_rest_of_it_drains() -> None:
    """More would be out of service than `maxParallelMoves` says."""
    gang_leaves = (evict(name, "n1", "g") for name in "uv")
    made = plan(bind("a", "n1"), *gang_leaves, move("w", "n1", "n2"))
    gang = [pod(name, gpus=2, on="n1", gang="g") for name in "uv"]
    things: list[Node | Pod] = [
        *(node("n1"), node("n2"), pod("a", gpus=8)),
        *(*gang, pod("w", gpus=4, on="n1")),
    ]

    found = advance(made, *things, max_parallel=2, drains={"u": BUSY, "v": SERVES})

    assert done(found) == ["drain v"]
    assert "Move w Waiting: waits for its turn: 2 pods are on their way" in told(found)


def test_who_leaves_after_its_drain_counts_once() -> None:
    """Fewer would leave at a time than `maxParallelMoves` says."""
    made = plan(bind("a", "n1"), evict("u", "n1"), evict("v", "n1"))
    leaving = pod("u", gpus=4, on="n1", terminating=True)
    things: list[Node | Pod] = [node("n1"), pod("a", gpus=8), pod("v", gpus=4, on="n1")]

    found = advance(made, leaving, *things, max_parallel=2, drains={"u": IDLE})

    assert done(found) == ["evict v from n1"]


def test_the_room_of_who_drains_is_given_to_nobody() -> None:
    """It still runs there."""
    found = advance(MADE, *SCENE, pod("b", gpus=8), drains={"v": IDLE})

    assert not any(isinstance(step, ReleasePod) for step in found.todo)


def test_who_drains_in_vain_is_put_back_into_service() -> None:
    """Its room is not needed any more."""
    things = (node("n1"), pod("a", gpus=4), pod("v", gpus=4, on="n1"))

    found = advance(MADE, *things, drains={"v": BUSY})

    assert done(found) == ["release a to n1", "serve v"]
    assert told(found)[0] == f"Evict v Done: {steps.SPARED}"


def test_who_drains_for_a_plan_that_fails_is_put_back_into_service() -> None:
    """Nobody is disturbed in vain, and putting it back keeps no plan open."""
    found = advance(MADE, node("n1"), pod("v", gpus=8, on="n1"), drains={"v": BUSY})

    assert done(found) == ["serve v"]
    assert found.phase is Phase.FAILED


def test_who_drains_for_room_that_a_failed_plan_still_wants_is_put_back_as_well() -> None:
    """It would serve nobody until the next plan thinks of it."""
    made = plan(*MADE.binds, bind("lost", "n1"), *MADE.evictions)

    found = advance(made, *SCENE, drains={"v": BUSY})

    assert done(found) == ["serve v"]
    assert "Evict v Waiting: stays: the plan can no longer be completed" in told(found)


def test_who_drains_because_its_unit_is_to_go_is_not_put_back_for_a_plan_that_fails() -> None:
    """That is for the deployment to say."""
    drains = replace(BUSY, yields=False)

    found = advance(MADE, node("n1"), pod("v", gpus=8, on="n1"), drains={"v": drains})

    assert done(found) == []
