"""A pass whose input has become useless ends, but not for ever one after the other."""

import pytest

from bayplan.cluster.keys import PodKey
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan_extender.planner import relevance
from bayplan_extender.planner.relevance import BrokenOff, Relevance
from bayplan_extender.view import View
from tests.builders import node, pod


@pytest.fixture
def view() -> View:
    """Return what a planner sees: a node, and a pod that waits."""
    made = View()
    made.cache.set_node(node("n1"))
    made.cache.set_pod(pod("a"))
    return made


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the cluster whenever the time is asked."""
    monkeypatch.setattr(relevance, "_LOOK_EVERY_S", 0.0)


def test_a_pass_is_broken_off_when_its_pod_is_gone(view: View) -> None:
    """A long search would go on for a pod that nobody wants any more."""
    solved = view.snapshot(0.0)
    clock = Relevance(view).clock(solved, limit_s=10)
    view.cache.remove_pod(PodKey(namespace="default", name="a"))
    view.changed.set()

    with pytest.raises(BrokenOff):
        plan(solved, Policy(), clock=clock)


def test_a_pass_goes_on_while_it_is_worth_something(view: View) -> None:
    """No plan would ever be made in a cluster where something always happens."""
    solved = view.snapshot(0.0)
    clock = Relevance(view).clock(solved, limit_s=10)
    view.cache.set_pod(pod("another"))
    view.changed.set()

    assert plan(solved, Policy(), clock=clock).plan.binds
    clock.check()


def test_the_cluster_is_not_looked_at_without_news(view: View) -> None:
    """Each look costs a snapshot of the whole cluster."""
    clock = Relevance(view).clock(view.snapshot(0.0), limit_s=10)
    view.cache.remove_pod(PodKey(namespace="default", name="a"))
    view.changed.clear()

    clock.check()


def test_passes_are_not_broken_off_for_ever(view: View) -> None:
    """Where pods are deleted every second, nobody would get a plan."""
    keeper = Relevance(view)
    solved = view.snapshot(0.0)
    view.cache.remove_pod(PodKey(namespace="default", name="a"))
    view.changed.set()

    with pytest.raises(BrokenOff):
        keeper.clock(solved, limit_s=10)()
    keeper.clock(solved, limit_s=-1)()
    keeper.clock(solved, limit_s=-1).check()
    with pytest.raises(BrokenOff):
        keeper.clock(solved, limit_s=10)()
