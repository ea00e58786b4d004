"""A pod that says it takes the place of a moved one, and is of somebody else."""

from dataclasses import replace

import pytest

from bayplan import steps
from bayplan.answers import Reservations
from bayplan.cache import Cache
from bayplan.cluster.keys import NodeName, Owner
from bayplan.cluster.pods import Pod
from bayplan.codec import PublishedPlan
from bayplan.plan import Certificate, Move, Plan, Verdict
from bayplan.policy import Order, Policy
from bayplan.steps import Phase
from bayplan.triggers import uncovered
from tests.builders import node, pod, snapshot

OLD = pod("web-1", gpus=8, on="n1", owner="web")
NEW = replace(pod("web-2", gpus=8, on="n2", owner="web"), replaces=OLD.uid)
MOVE = Move(
    pod=OLD.key,
    uid=OLD.uid,
    source=NodeName("n1"),
    target=NodeName("n2"),
    owner=Owner(kind="ReplicaSet", namespace="default", name="web", uid="web"),
    priority=0,
)
PLAN = Plan(
    certificate=Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL), moves=(MOVE,)
)


def forged(*, on: str | None = None) -> Pod:
    """Return a pod of another owner that says the same of itself."""
    return replace(pod("evil", gpus=8, on=on, namespace="other"), replaces=OLD.uid)


@pytest.mark.parametrize(
    ("asks", "held"),
    [
        pytest.param(None, 8, id="anybody"),
        pytest.param(NEW, 0, id="the pod that its owner made"),
        pytest.param(forged(), 8, id="a pod of another owner"),
        pytest.param(replace(forged(), owner=None), 8, id="a pod without an owner"),
    ],
)
def test_promised_room_is_for_the_replacement_alone(asks: Pod | None, held: int) -> None:
    """Anybody could take the room of any move by an annotation."""
    cache = Cache()
    cache.replace_nodes([node("n1"), node("n2")])
    cache.set_pod(OLD)

    assert Reservations(PLAN).on(NodeName("n2"), cache, besides=asks).gpus == held


@pytest.mark.parametrize(("taken_by", "held"), [(NEW, 0), (forged(on="n2"), 8)])
def test_a_promise_is_kept_by_the_replacement_alone(taken_by: Pod, held: int) -> None:
    """The room would be free for others as soon as somebody says that it is taken."""
    cache = Cache()
    cache.replace_nodes([node("n1"), node("n2")])
    cache.set_pod(OLD)
    cache.set_pod(taken_by)
    promised = Reservations(PLAN).on(NodeName("n2"), cache)
    cache.remove_pod(taken_by.key)

    assert promised.gpus == held
    assert Reservations(PLAN).on(NodeName("n2"), cache).gpus == 8


@pytest.mark.parametrize(
    ("taken_by", "phase"), [(NEW, Phase.COMPLETED), (forged(on="n2"), Phase.EXECUTING)]
)
def test_a_move_is_done_once_its_own_replacement_runs(taken_by: Pod, phase: Phase) -> None:
    """The plan would end while the pod that it moved has no place."""
    there = snapshot(node("n1"), node("n2"), taken_by)

    assert steps.advance(PLAN, there, Policy(), idle_s=0).phase is phase


@pytest.mark.parametrize(("taken_by", "left"), [(NEW, ("uid-web-3",)), (forged(on="n2"), ())])
def test_a_plan_covers_the_replacement_until_that_has_its_place(
    taken_by: Pod, left: tuple[str, ...]
) -> None:
    """A plan at work would be given up for a pod that it has a place for."""
    published = PublishedPlan(name="plan-00001", uid="u", sequence=1, plan=PLAN)
    there = snapshot(node("n1"), node("n2"), taken_by, pod("web-3", gpus=8, owner="web"))

    assert uncovered(there, published) == left
