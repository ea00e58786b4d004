"""`kubectl bayplan explain pod` answers in sentences."""

from dataclasses import replace

import pytest

from bayplan.cluster.budgets import Health
from bayplan.cluster.keys import NodeName, Owner
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.codec import PublishedPlan, StepStatus
from bayplan.plan import (
    Bind,
    Certificate,
    Choice,
    Evict,
    Hold,
    Move,
    Reason,
    Rejection,
    Verdict,
    plan_of,
)
from bayplan.policy import Order
from bayplan.steps import SPARED
from bayplan.why.explain import chosen, explain
from tests.builders import GPU, pod

N1, N2 = NodeName("n1"), NodeName("n2")


def published(
    *actions: Bind | Move | Evict | Hold, message: str = "", phase: str = "Executing"
) -> PublishedPlan:
    """Return plan-1 with these actions, whose first step is waiting."""
    plan = plan_of(Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL), actions)
    step = StepStatus(
        pod=str(actions[0].pod), type="Bind", state="Waiting", message="waits for room on n1"
    )
    return PublishedPlan(
        name="plan-1", uid="p", sequence=1, plan=plan, phase=phase, message=message, steps=(step,)
    )


def told(
    subject: Pod,
    *plans: PublishedPlan,
    placed_by: str | None = "",
    now: float = 0,
    decided: str = "",
) -> str:
    """Return the whole explanation."""
    lines = explain(subject, placed_by=placed_by, plans=plans, now=now, decided=decided)
    return "\n".join(lines)


def test_a_placed_pod_is_explained_by_its_plan_and_by_who_moved_for_it() -> None:
    """Why a pod is here has no answer in kubectl today."""
    guest = pod("chat", gpus=8, priority=1000, on="n1")
    victim = pod("small", on="n1")
    move = Move(
        pod=victim.key, uid=victim.uid, source=N1, target=N2, owner=victim.owner, priority=0
    )
    plan = published(Bind(pod=guest.key, uid=guest.uid, node=N1), move, phase="Completed")

    assert told(guest, plan, placed_by="plan-1").splitlines() == [
        "Pod default/chat (priority 1000)",
        "Runs on n1.",
        "plan-1 placed it: verdict Optimal for order PlaceFirst (proved).",
        "Room was made there: default/small (priority 0) moved to n2.",
    ]

    replacement = replace(pod("small-2", on="n2"), replaces=victim.uid)
    text = told(replacement, plan, placed_by="plan-1")
    assert "It replaces small, which plan-1 moved off n1 for chat." in text
    starting = replace(replacement, serves_by=900, health=Health.UNREADY)
    text = told(starting, plan, placed_by="plan-1")
    assert "It replaces small, which leaves n1 for chat once it serves." in text


def test_a_held_pod_is_told_what_is_short_and_what_would_help() -> None:
    """Pending without a usable reason is what users of schedulers complain of most."""
    waiting = pod("chat", gpus=16)
    why = Rejection(reason=Reason.TOO_SMALL, message="needs 16 GPUs; the largest has 8")
    hold = Hold(pod=waiting.key, uid=waiting.uid, rejection=why, remedy="ask for less")

    text = told(waiting, published(hold))

    assert "plan-1 holds it (NodeTooSmall): needs 16 GPUs; the largest has 8." in text
    assert "What would help: ask for less." in text
    assert "autoscalers" not in text
    assert "It is shown to node autoscalers." in told(
        replace(waiting, offered=True), published(hold)
    )


def test_a_pod_with_a_home_is_told_what_it_waits_for() -> None:
    """The plan's progress would stay unseen."""
    waiting = pod("chat")
    plan = published(Bind(pod=waiting.key, uid=waiting.uid, node=N1), message="0 of 1 steps done")

    assert told(waiting, plan).splitlines()[1:] == [
        "plan-1 gives it n1: waits for room on n1.",
        "Progress: 0 of 1 steps done.",
    ]


def test_a_pod_of_a_plan_that_ended_waits_for_the_next_one() -> None:
    """A plan that is over would still be said to give the pod a node."""
    waiting = pod("chat")
    bind = Bind(pod=waiting.key, uid=waiting.uid, node=N1)

    assert told(waiting, published(bind, phase="Superseded")).splitlines()[1:] == [
        "plan-1 was to give it n1, and ended before: Superseded.",
        "Next: another plan follows within seconds.",
    ]
    assert "Progress" not in told(waiting, published(bind))


def test_room_is_not_said_to_be_made_for_one_of_several() -> None:
    """A pod that had room anyhow would be said to have cost another its place."""
    one, other = pod("one", on="n1"), pod("other", on="n1")
    victim = pod("small", on="n1")
    move = Move(
        pod=victim.key, uid=victim.uid, source=N1, target=N2, owner=victim.owner, priority=0
    )
    binds = [Bind(pod=each.key, uid=each.uid, node=N1) for each in (one, other)]

    text = told(one, published(*binds, move), placed_by="plan-1")

    assert "Room was made there for it or for other: default/small (priority 0) moved" in text


def test_a_pod_that_no_plan_knows_is_told_so() -> None:
    """Silence would look like a fault."""
    assert told(pod("chat")).endswith(
        "none that is kept tells of it.\n"
        "If none does within half a minute, no planner works: look at its log."
    )
    assert "No plan placed it" in told(pod("chat", on="n1"))


@pytest.mark.parametrize(
    ("subject", "placed_by", "decided", "rest"),
    [
        pytest.param(
            pod("chat", on="n1"),
            "plan-0",
            "plan-0 places it on n1",
            "plan-0 placed it; that plan is no longer kept, so whom it made leave is not known.",
            id="placed",
        ),
        pytest.param(
            replace(pod("chat", on="n1"), replaces="uid-old"),
            "plan-0",
            "plan-0 moves old to n1",
            "plan-0 placed it, in the place of a pod that it moved; that plan is no longer kept, so"
            " whom it made leave is not known.\nIt was told last: plan-0 moves old to n1.",
            id="moved",
        ),
        pytest.param(
            pod("chat", on="n1"),
            "",
            "no planner has worked for 60 s",
            "No plan placed it: it went where its scheduler's own scores were best.\n"
            "It was told last: no planner has worked for 60 s.",
            id="its gate was lifted",
        ),
        pytest.param(
            pod("chat"),
            "",
            "Outranked: needs 8 GPUs",
            "Waits for a plan: none that is kept tells of it.\n"
            "It was told last: Outranked: needs 8 GPUs.\n"
            "If none does within half a minute, no planner works: look at its log.",
            id="it waits",
        ),
        pytest.param(
            pod("chat", on="n1"),
            None,
            "",
            "No plan that is kept placed it; whether an older one did, `kubectl bayplan explain`"
            " says.",
            id="its annotations are not known",
        ),
    ],
)
def test_what_a_pod_says_itself_is_told_where_its_plan_is_gone(
    subject: Pod, placed_by: str | None, decided: str, rest: str
) -> None:
    """Twenty plans are kept, which may be those of the last minute.

    A pod of an older one was said to have had none, or that nobody had looked at it.
    """
    assert told(subject, placed_by=placed_by, decided=decided).endswith(f"\n{rest}")


@pytest.mark.parametrize(
    ("subject", "placed_by", "line"),
    [
        pytest.param(
            pod("chat", on="n1"),
            "plan-0",
            "plan-0 placed it; that plan may not be read, so whom it made leave is not known.",
            id="placed",
        ),
        pytest.param(
            pod("chat"), "", "It was told last: Outranked: needs 8 GPUs.", id="it was told why"
        ),
    ],
)
def test_who_may_not_read_plans_is_told_what_the_pod_says(
    subject: Pod, placed_by: str, line: str
) -> None:
    """Seen: who has rights in one namespace only was told nothing about its own pods."""
    decided = "Outranked: needs 8 GPUs"

    lines = explain(subject, placed_by=placed_by, plans=None, now=0, decided=decided)

    assert lines[-1] == line


def test_a_pod_of_which_a_large_plan_does_not_say_what_it_decided_is_told_so() -> None:
    """It was sent to the log of a planner at work."""
    large = published(Bind(pod=pod("a").key, uid="uid-a", node=N1))
    large = replace(large, truncated=True, created_at=100)
    seen, late = (replace(pod("chat"), created_at=at) for at in (50, 150))
    why = Rejection(reason=Reason.TOO_SMALL, message="needs 16 GPUs; the largest has 8")
    older = replace(published(Hold(pod=seen.key, uid=seen.uid, rejection=why)), sequence=0)

    assert told(seen, large, older, decided="Outranked: full").splitlines()[1:] == [
        "plan-1 has decided on it, and is too large to list all that it did.",
        "It was told last: Outranked: full.",
        "Next: it is planned again with the next plan.",
    ]
    assert "none that is kept tells of it" in told(late, large)


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        pytest.param(
            False,
            "plan-1 evicts pods of ReplicaSet default/web: it is planned when plan-1 has ended.",
            id="of one that was evicted",
        ),
        pytest.param(
            True,
            "plan-1 moves pods of ReplicaSet default/web: it gets the place of one that has left,"
            " or is planned when plan-1 has ended.",
            id="of one that was moved",
        ),
    ],
)
def test_a_pod_in_the_place_of_a_victim_is_told_what_it_waits_for(
    *, moved: bool, said: str
) -> None:
    """Seen: for as long as others took to leave, it was sent to the log of a planner at work."""
    owner = Owner(kind="ReplicaSet", namespace="default", name="web", uid="o")
    victim = replace(pod("web-1", on="n1"), owner=owner)
    action: Move | Evict = Evict(pod=victim.key, uid=victim.uid, node=N1, priority=0, owner=owner)
    if moved:
        action = Move(pod=victim.key, uid=victim.uid, source=N1, target=N2, owner=owner, priority=0)
    waiting = replace(pod("web-2"), owner=owner)

    plan = published(action, message="0 of 2 steps done")
    assert told(waiting, plan).splitlines()[1:] == [said, "Progress: 0 of 2 steps done."]
    ended = published(action, phase="Completed")
    assert "none that is kept tells of it" in told(waiting, ended)
    assert "none that is kept tells of it" in told(pod("other"), plan)


def test_a_pod_that_nobody_plans_is_not_said_to_wait_for_the_scheduler_alone() -> None:
    """It may be behind a gate of somebody else, or on its way out."""
    free = replace(pod("chat"), waiting=False)

    assert "it waits for its scheduler" in told(free)
    assert told(replace(free, terminating=True)).endswith("Is being deleted.")


def test_a_victim_is_told_before_it_goes() -> None:
    """Its owner would learn of the move only from its end."""
    victim = pod("small", on="n1")
    move = Move(
        pod=victim.key, uid=victim.uid, source=N1, target=N2, owner=victim.owner, priority=0
    )

    guest = Bind(pod=pod("chat").key, uid="uid-chat", node=N1)

    assert "plan-1 asks it to leave n1: " in told(victim, published(move))
    assert "plan-1 asks it to leave n1 for chat: " in told(victim, published(move, guest))


def test_a_victim_that_may_stay_after_all_is_not_said_to_be_asked_to_leave() -> None:
    """Its owner would get ready for a move that does not come."""
    victim = pod("small", on="n1")
    plan = published(Evict(pod=victim.key, uid=victim.uid, node=N1, priority=0))
    step = replace(plan.steps[0], message=SPARED)

    assert told(victim, replace(plan, steps=(step,))).endswith(
        "plan-1 was to make it leave n1; it stays: its room is no longer needed."
    )


LEAVES = replace(pod("small", on="n1", terminating=True), leaves_at=3600)


@pytest.mark.parametrize(
    ("leaves", "now", "goes"),
    [
        pytest.param(LEAVES, 0, "Is being deleted, by 01:00:00 UTC at most", id="in its time"),
        pytest.param(
            replace(LEAVES, finalizers=("a.io/x",)),
            3601,
            "Is being deleted, and has hung since 01:00:00 UTC: finalizer a.io/x keeps it; whoever"
            " set that has to take it away",
            id="a finalizer keeps it",
        ),
        pytest.param(
            replace(pod("small", on="n1"), gives_way_by=3600),
            0,
            "Leaves once its replacement serves, which has until 01:00:00 UTC",
            id="its replacement starts first",
        ),
    ],
)
def test_a_victim_of_a_plan_that_has_ended_is_told_that_it_goes_and_for_whom(
    leaves: Pod, now: float, goes: str
) -> None:
    """Seen: with a newer plan at work it was said to run, and nothing else, until it was gone."""
    evict = Evict(pod=leaves.key, uid=leaves.uid, node=N1, priority=0)
    guest = Bind(pod=pod("chat").key, uid="uid-chat", node=N1)
    older = published(evict, guest, phase="Superseded", message="plan-2 took over")
    newer = replace(
        published(Bind(pod=pod("other").key, uid="uid-other", node=N2)), name="plan-2", sequence=2
    )

    assert told(leaves, older, newer, now=now).splitlines()[-2:] == [
        f"{goes}.",
        "plan-1 made it leave n1 for chat; that plan has ended (plan-2 took over).",
    ]
    assert told(leaves, newer, now=now).splitlines()[-1] == f"{goes}."
    stays = replace(leaves, terminating=False, gives_way_by=0)
    assert "leave" not in told(stays, older, newer, now=now)


def choice(free: int, other: int | None, *, loss: float = 1.0) -> Choice:
    """Return n1 with `free` GPUs, chosen for its `loss` before n2 with `other` and a loss of 2."""
    return Choice(
        node=N1,
        room=Resources.of({GPU: free}),
        runner_up=None if other is None else N2,
        runner_up_room=Resources.of({GPU: other or 0}),
        asked=5,
        loss=loss,
        runner_up_loss=2.0,
    )


def test_a_free_pod_is_told_the_slot_that_decided() -> None:
    """Why it did not go to the emptier node is what people ask."""
    lines = chosen(pod("a", gpus=1), choice(3, 8))

    assert lines == (
        "Was given n1 (3 GPUs free): the scheduler asked about 5 nodes.",
        "Runner-up: n2 (8 GPUs free).",
        "What decided: whole free slots of 8 GPUs lost: 0, on the runner-up 1.",
    )


def test_a_free_pod_is_told_when_no_slot_decided() -> None:
    """A reason that is not the reason would be worse than none."""
    lines = chosen(pod("a", gpus=1), choice(8, 8))

    assert lines[2] == "What decided: how many of the known pods still have room afterwards."


def test_a_free_pod_is_told_no_slot_that_speaks_against_its_node() -> None:
    """The node that was chosen would lose a slot of eight that the runner-up keeps."""
    lines = chosen(pod("a", gpus=1), choice(8, 3))

    assert lines[2] == "What decided: how many of the known pods still have room afterwards."


def test_a_free_pod_is_told_that_nothing_decided() -> None:
    """Slots would be named although both nodes are worth the same."""
    lines = chosen(pod("a", gpus=1), choice(3, 8, loss=2.0))

    assert lines[2] == "What decided: both are equal, and it was asked about first."


def test_a_free_pod_is_told_that_it_had_no_choice() -> None:
    """Nothing decided when there was one node."""
    assert chosen(pod("a"), replace(choice(1, None), asked=1)) == (
        "Was given n1 (1 GPU free): the scheduler asked about 1 node.",
        "No other of them had room.",
    )


def test_gates_of_others_are_named_wherever_somebody_asks() -> None:
    """The webhook said only that there may be other gates."""
    why = "waits behind gates of others (a.b/c): it is planned once they are lifted"

    assert told(replace(pod("a"), waiting=False, unplanned=why)).splitlines() == [
        "Pod default/a (priority 0)",
        "Waits behind gates of others (a.b/c): it is planned once they are lifted.",
    ]


@pytest.mark.parametrize(
    ("owner", "follows"),
    [
        pytest.param(
            None,
            "Next: correct what is refused, or delete the pod and make it anew: it has no owner.",
            id="nobody makes it anew",
        ),
        pytest.param(
            Owner(kind="ReplicaSet", namespace="default", name="chat", uid="o"),
            "Next: correct what is refused; after some minutes ReplicaSet default/chat makes it"
            " anew, gated.",
            id="its owner makes it anew",
        ),
    ],
)
def test_a_pinned_pod_that_kube_scheduler_refuses_is_told_so(
    owner: Owner | None, follows: str
) -> None:
    """Seen: it was said to be bound next while its volume claim did not exist."""
    refused = replace(
        pod("chat", on="n1"), bound=False, owner=owner, refused='claim "nope" not found'
    )

    assert told(refused, placed_by="plan-0").splitlines()[1:3] == [
        'Is pinned to n1, and kube-scheduler refuses it there: claim "nope" not found.',
        follows,
    ]


def test_a_pod_without_a_plan_is_told_what_its_scheduler_says() -> None:
    """It would be said to wait for its scheduler, which has answered already."""
    free = replace(pod("chat"), waiting=False, refused="0/4 nodes are available: 4 are full")

    assert told(free).endswith(
        "Kube-scheduler finds no node for it: 0/4 nodes are available: 4 are full."
    )


@pytest.mark.parametrize("on", [None, "n1"], ids=["free", "pinned"])
def test_what_others_say_ends_with_one_full_stop(on: str | None) -> None:
    """Seen: kube-scheduler's sentence has one, and got another."""
    said = "0/4 nodes are available: 4 are full. preemption: 4 No preemption victims found."
    free = replace(pod("chat", on=on), waiting=False, bound=False, refused=said)

    assert any(line.endswith(f": {said}") for line in told(free).splitlines())
