"""A pinned pod is refused only for what kube-scheduler, which may know more, does not look at."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bayplan.answers import Answer, Reservations
from bayplan.api import names
from bayplan.cluster import units
from bayplan.cluster.constraints import Taint, Toleration
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.plan import Reason
from tests.builders import node, pod
from tests.scenes.answers import N1, answer, cache_of

BROKEN = (Taint(key=names.LABEL_UNHEALTHY),)
ANY = (Toleration(operator="Exists"),)


def pinned(*, gpus: int = 8) -> Pod:
    """Return a pod that a plan has sent to n1."""
    return replace(pod("a", gpus=gpus, on="n1"), bound=False)


def sharing(name: str) -> Pod:
    """Return a running pod with half of the first GPU of n1."""
    requests = Resources.of({units.part(0): 500})
    return replace(pod(name, on="n1"), requests=requests)


def asked(made: Pod, *there: Node | Pod) -> Answer:
    """Return the answer about n1."""
    return answer(made, [N1], cache_of(*there), Reservations())


@pytest.mark.parametrize(
    "there",
    [
        pytest.param((node("n1"), pod("b", gpus=8, on="n1")), id="who has left is still seen"),
        pytest.param((node("n1", schedulable=False),), id="it is still seen as cordoned"),
        pytest.param((node("n1", taints=(Taint(key="x"),)),), id="its taint is still seen"),
        pytest.param((node("n1", gpus=4),), id="its GPUs are not all seen yet"),
        pytest.param((), id="it is not seen yet"),
    ],
)
def test_one_that_the_scheduler_lets_in_is_let_in(there: Sequence[Node | Pod]) -> None:
    """Refused by an old picture, it would not be tried again before something else happens."""
    assert asked(pinned(), *there).node == N1


def test_what_is_told_to_be_broken_takes_nobody() -> None:
    """The scheduler knows nothing of the label."""
    refused = asked(pinned(), node("n1", taints=BROKEN))

    assert {why.reason for _, why in refused.refused} == {Reason.TAINT_NOT_TOLERATED}


def test_but_who_tolerates_it() -> None:
    """Somebody has to look after it."""
    tolerant = replace(pinned(), constraints=replace(pinned().constraints, tolerations=ANY))

    assert asked(tolerant, node("n1", taints=BROKEN)).node == N1


@pytest.mark.parametrize(("gpus", "fits"), [(7, True), (8, False)])
def test_whole_gpus_are_kept_from_those_that_are_shared(*, gpus: int, fits: bool) -> None:
    """To the scheduler a GPU with shares on it is free."""
    refused = asked(pinned(gpus=gpus), node("n1"), sharing("s"))

    assert (refused.node == N1) is fits
    if not fits:
        assert {why.reason for _, why in refused.refused} == {Reason.INSUFFICIENT_ROOM}


def test_one_without_a_pin_goes_by_what_we_know() -> None:
    """It has others to go to."""
    free = pod("a", gpus=8)

    assert asked(free, node("n1"), pod("b", gpus=8, on="n1")).node is None
