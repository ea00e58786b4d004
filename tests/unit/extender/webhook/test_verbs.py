"""What the webhook remembers from one question of the scheduler to the next, and for how long."""

import json
import math
from dataclasses import dataclass, replace

import pytest
from structlog.testing import capture_logs

from bayplan.cluster.keys import NodeName
from bayplan.cluster.pods import Pod
from bayplan_extender.view import View
from bayplan_extender.webhook import recent
from bayplan_extender.webhook.verbs import ASSUME_S, Verbs
from tests.builders import node, pod
from tests.webhook_server import arguments

N1, N2 = NODES = (NodeName("n1"), NodeName("n2"))


@dataclass
class Clock:
    """A clock that is set by hand."""

    now: float = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock at 0."""
    return Clock()


@pytest.fixture
def view() -> View:
    """Return a view of two empty nodes, whose watch of pods is never late."""
    seen = View()
    seen.cache.replace_nodes([node(name) for name in NODES])
    for kind in seen.missing:
        seen.done(kind)
    seen.current["pods"] = math.inf
    return seen


@pytest.fixture
def asked(view: View, clock: Clock) -> Verbs:
    """Return the verbs."""
    return Verbs(view, clock=clock)


def told(asked: Verbs, of: Pod) -> NodeName | None:
    """Return the node that a pod is told."""
    return asked.place(of, NODES).node


def test_a_pod_counts_where_it_was_told_to_go_until_it_should_be_seen_there(
    asked: Verbs, clock: Clock
) -> None:
    """Two pods would get the room of one, or what never came keep its room for good."""
    first, second, third, fourth = (pod(name, gpus=8) for name in "abcd")

    assert {told(asked, first), told(asked, second)} == {N1, N2}
    clock.now = ASSUME_S - 1
    assert told(asked, third) is None
    clock.now = ASSUME_S + 1
    assert {told(asked, third), told(asked, fourth)} == {N1, N2}


def test_how_a_node_was_chosen_is_told_of_a_pod_that_is_there(asked: Verbs) -> None:
    """People would be told why a pod is where it is not."""
    one = pod("a")
    chosen = told(asked, one)
    assert chosen is not None
    other = N2 if chosen == N1 else N1

    assert asked.choice(one) == asked.choice(replace(one, node=chosen))
    assert asked.choice(one) is not None
    assert asked.choice(replace(one, node=other)) is None
    assert asked.choice(pod("b")) is None


def test_how_nodes_were_chosen_is_forgotten_in_the_order_of_the_last_question(
    asked: Verbs, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook that runs for months would fill its memory."""
    monkeypatch.setattr(recent, "MOST", 2)

    def known_after(names: str) -> str:
        for name in names:
            told(asked, pod(name))
            clock.now += ASSUME_S + 1
        return "".join(name for name in "abc" if asked.choice(pod(name)))

    assert (known_after("abb"), known_after("ac")) == ("ab", "ac")


def test_whole_nodes_over_the_wire_are_warned_of_once(asked: Verbs) -> None:
    """Nobody would notice the mistake, or the log would tell of nothing else."""
    items = [{"metadata": {"name": name}, "spec": {}, "status": {}} for name in NODES]
    names, nodes = arguments(), arguments(names=None) | {"Nodes": {"metadata": {}, "items": items}}

    def warned(body: object) -> list[int]:
        with capture_logs() as events:
            asked.filter(json.dumps(body).encode())
        return [event["nodes"] for event in events if event["event"] == "whole_nodes_received"]

    assert [warned(names), warned(nodes), warned(nodes)] == [[], [2], []]


def test_a_preemption_is_logged_when_it_is_answered_otherwise(
    asked: Verbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Schedulers ask at each try, four times a second in a busy cluster."""
    monkeypatch.setattr(recent, "MOST", 1)

    def told(uid: str, nodes: tuple[str, ...] = NODES) -> list[int]:
        victims = {name: {"Pods": [{"UID": "victim"}]} for name in nodes}
        metadata = {"name": uid, "namespace": "default", "uid": uid}
        body = {"Pod": {"metadata": metadata}, "NodeNameToMetaVictims": victims}
        with capture_logs() as events:
            asked.preempt(json.dumps(body).encode())
        return [event["nodes"] for event in events if event["event"] == "preemption_asked"]

    assert [told("a"), told("a"), told("a", NODES[:1])] == [[2], [], []]
    assert [told("b"), told("a")] == [[2], [2]]  # forgotten: the longest without a call
