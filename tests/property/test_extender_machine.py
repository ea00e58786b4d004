"""No answer of the webhook ever over-commits a node, whatever order calls and events come in.

A world of nodes and pods, a scheduler that asks about them and binds what it was told, an operator
that pins planned pods, and a watch that is late, repeats itself, breaks, and lists anew. What is
true of the world must fit its nodes at every moment; once a list has been taken in full, the cache
must equal one built from nothing.

A live watch is at most `LAG_S` behind; the scheduler binds within `BIND_S` or gives up. Both are
less than `ASSUME_S`, which is why assumptions may end. `BAYPLAN_LONG=1` runs ten times as much.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bayplan.answers import Reservations, answer
from bayplan.cache import Cache
from bayplan.online.advisor import Advisor
from bayplan.plan import Bind, Certificate, Plan, Verdict
from bayplan.policy import Order
from bayplan.snapshot import NodeName, Pod, PodKey, Resources
from tests.builders import GPU, node, pod

ASSUME_S, BIND_S, LAG_S = 30.0, 20.0, 5.0

#: GPUs by node.
NODES = {NodeName("n1"): 8, NodeName("n2"): 8, NodeName("n3"): 4}
NAMES = ("a", "b", "c", "d", "e", "f")

CERTIFICATE = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)

names = st.sampled_from(NAMES)
offers = st.sampled_from([tuple(NODES), ("n1", "n2"), ("n3", "n1"), ("n2",)])


@dataclass(frozen=True, kw_only=True)
class Event:
    """A change of a pod; `gone` when it was deleted."""

    pod: Pod
    version: int
    at: float
    gone: bool = False


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """The scheduler was told a node and is binding the pod."""

    pod: Pod
    node: NodeName
    until: float


class ExtenderMachine(RuleBasedStateMachine):
    """The world (`pods`, `log`), the scheduler (`attempts`), and the webhook's memory (`cache`)."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.pods: dict[str, Pod] = {}
        self.log: list[Event] = []
        self.attempts: dict[str, Attempt] = {}
        self.made = 0
        self.cache = Cache()
        self.cache.replace_nodes(node(name, gpus=gpus) for name, gpus in NODES.items())
        self.advisor = Advisor(self.cache)
        self.seen = 0  # events of the log that the watch has passed on
        self.is_broken = False
        self.current = 0.0
        self.homes: dict[str, NodeName] = {}
        self.reservations = Reservations()

    # The world.

    @rule(name=names, gpus=st.sampled_from([1, 2, 3, 4, 8]), gated=st.booleans())
    def pod_is_made(self, name: str, gpus: int, *, gated: bool) -> None:
        """A pod appears, gated or not, perhaps under the name of an earlier one."""
        if name not in self.pods:
            self.made += 1
            made = replace(pod(name, gpus=gpus), uid=f"uid-{self.made}", waiting=gated)
            self._write(made)

    @rule(name=names)
    def pod_is_deleted(self, name: str) -> None:
        """A pod goes, perhaps while it is being bound."""
        if name in self.pods:
            self._write(self.pods[name], gone=True)

    @rule(name=names)
    def pod_is_touched(self, name: str) -> None:
        """Something about a pod changes that means nothing to us."""
        if name in self.pods:
            self._write(self.pods[name])

    # The scheduler.

    @rule(name=names, offered=offers, lost=st.booleans())
    def scheduler_asks(self, name: str, offered: tuple[NodeName, ...], *, lost: bool) -> None:
        """It asks about a pod; perhaps the reply is lost, or it asks twice and takes one."""
        asked = self.pods.get(name)
        if asked is None or asked.waiting or (asked.node and asked.bound):
            return
        if asked.node:  # pinned: it looks at one node alone
            offered = (asked.node,)
        told = self._ask(asked, offered)
        if told is not None and not lost:
            self.attempts[asked.uid] = Attempt(pod=asked, node=told, until=self.now + BIND_S)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def scheduler_binds(self, data: st.DataObject) -> None:
        """A binding reaches the API server, which accepts it for this very pod, once."""
        attempt = self._attempt(data)
        there = self.pods.get(attempt.pod.key.name)
        if there is None or there.uid != attempt.pod.uid or (there.node and there.bound):
            return
        self._write(replace(there, node=attempt.node, bound=True, waiting=False))

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def scheduler_gives_up(self, data: st.DataObject) -> None:
        """A binding fails on its way."""
        self._attempt(data)

    # Planner and operator.

    @rule()
    def plan_is_made(self) -> None:
        """A plan gives homes to gated pods that we know of, where there is room in truth."""
        room, homes, binds = self._truly_free(), dict[str, NodeName](), []
        for waiting in self.pods.values():
            known = self.cache.pod(waiting.key)
            fitting = [n for n in NODES if waiting.requests.fits(room[n])]
            if waiting.waiting and known is not None and known.uid == waiting.uid and fitting:
                home = homes[waiting.uid] = fitting[0]
                room[home] = room[home] - waiting.requests
                binds.append(Bind(pod=waiting.key, uid=waiting.uid, node=home))
        self.homes = homes
        self.reservations = Reservations(Plan(certificate=CERTIFICATE, binds=tuple(binds)))

    @rule(name=names)
    def pod_is_released(self, name: str) -> None:
        """The operator lifts a planned pod's gate and pins it."""
        there = self.pods.get(name)
        if there is not None and there.waiting and there.uid in self.homes:
            home = self.homes[there.uid]
            self._write(replace(there, node=home, bound=False, waiting=False))

    @rule()
    def plan_ends(self) -> None:
        """The plan is finished, or given up."""
        self.homes, self.reservations = {}, Reservations()

    # The watch.

    @rule(count=st.integers(1, 4))
    def watch_goes_on(self, count: int) -> None:
        """Some of what happened is passed on."""
        if not self.is_broken:
            for event in self.log[self.seen : self.seen + count]:
                self._pass_on(event)
            self._catch_up()

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def watch_repeats_itself(self, data: st.DataObject) -> None:
        """An event of a pod that is still there comes again, after later ones."""
        event = self.log[data.draw(st.integers(0, self.seen - 1))]
        known = self.cache.pod(event.pod.key)
        if event.gone or (known is not None and known.uid == event.pod.uid):
            self._apply(event)

    @rule()
    def watch_breaks(self) -> None:
        """Nothing is passed on until everything is listed anew."""
        self.is_broken = True

    @rule(behind=st.integers(0, 3))
    def pods_are_listed(self, behind: int) -> None:
        """The whole collection is listed, perhaps by a server that is behind; the watch resumes."""
        at = max(0, len(self.log) - behind)
        listed = _state(self.log[:at])
        self.cache.replace_pods(
            [event.pod for event in listed], {e.pod.uid: e.version for e in listed}
        )
        self.seen, self.is_broken = at, False
        for event in self._late():
            self._pass_on(event)
        self._catch_up()

    @rule(name=st.sampled_from(list(NODES)), again=st.booleans())
    def node_goes_or_comes(self, name: NodeName, *, again: bool) -> None:
        """A node is deleted from under its pods, or made again."""
        if again:
            self.cache.set_node(node(name, gpus=NODES[name]))
        else:
            self.cache.remove_node(name)

    @rule(seconds=st.sampled_from([1.0, 4.0, 15.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        """Bindings are given up; a live watch is never far behind; assumptions run out."""
        self.now += seconds
        self.attempts = {uid: a for uid, a in self.attempts.items() if a.until > self.now}
        if not self.is_broken:
            for event in self._late():
                self._pass_on(event)
            self._catch_up()

    # What must hold.

    @invariant()
    def no_node_is_over_committed(self) -> None:
        """Pods would be refused by the kubelet, or run out of GPUs."""
        bound = [p for p in self.pods.values() if p.node and p.bound]
        for name, gpus in NODES.items():
            assert sum(p.requests[GPU] for p in bound if p.node == name) <= gpus, name

    @invariant()
    def a_watch_that_has_caught_up_shows_the_truth(self) -> None:
        """Room would leak, or be given out twice."""
        if self.is_broken or self.seen < len(self.log):
            return
        fresh = Cache()
        fresh.replace_nodes(n for name in NODES if (n := self.cache.node(name)))
        fresh.replace_pods(self.pods.values())
        assert dict(self.cache.pods()) == dict(fresh.pods())
        for name in NODES:
            assumed = _sum(a.pod.requests for a in self.cache.assumptions() if a.node == name)
            expected = fresh.free(name) - assumed if fresh.node(name) else Resources()
            assert self.cache.free(name) == expected

    def _ask(self, asked: Pod, offered: tuple[NodeName, ...]) -> NodeName | None:
        self.cache.expire(min(self.now, self.current))
        before = self.cache.snapshot()
        reply = answer(asked, offered, self.cache, self.reservations, self.advisor)
        if reply.node is None:
            assert {name for name, _ in reply.refused} == set(offered)
            assert before == self.cache.snapshot()
            return None
        assert reply.node in offered
        self.cache.assume(asked, reply.node, until=self.now + ASSUME_S)
        if asked.node is None and asked.uid not in self.homes:
            left = self.cache.free(reply.node) - self.reservations.on(reply.node, self.cache)
            assert left[GPU] >= 0, "took room that the plan has promised"
        assert (
            answer(asked, offered, self.cache, self.reservations, self.advisor).node == reply.node
        )
        return reply.node

    def _attempt(self, data: st.DataObject) -> Attempt:
        return self.attempts.pop(data.draw(st.sampled_from(sorted(self.attempts))))

    def _write(self, written: Pod, *, gone: bool = False) -> None:
        event = Event(pod=written, version=len(self.log) + 1, at=self.now, gone=gone)
        self.log.append(event)
        self.pods.pop(written.key.name, None)
        if not gone:
            self.pods[written.key.name] = written

    def _late(self) -> list[Event]:
        return [event for event in self.log[self.seen :] if event.at < self.now - LAG_S]

    def _pass_on(self, event: Event) -> None:
        self._apply(event)
        self.seen += 1

    def _apply(self, event: Event) -> None:
        if event.gone:
            self.cache.remove_pod(event.pod.key, event.pod.uid)
        else:
            self.cache.set_pod(event.pod, version=event.version)

    def _catch_up(self) -> None:
        """Note how far a live watch has come: no further behind than it may be."""
        self.current = self.now

    def _truly_free(self) -> dict[NodeName, Resources]:
        """Return the room beside pods with a node and pods on their way."""
        room = {name: node(name, gpus=gpus).allocatable for name, gpus in NODES.items()}
        for there in self.pods.values():
            if there.node:
                room[there.node] = room[there.node] - there.requests
        for attempt in self.attempts.values():
            room[attempt.node] = room[attempt.node] - attempt.pod.requests
        return room


def _state(log: Iterable[Event]) -> list[Event]:
    """Return the last event of each pod that is there."""
    there: dict[PodKey, Event] = {}
    for event in log:
        there.pop(event.pod.key, None)
        if not event.gone:
            there[event.pod.key] = event
    return list(there.values())


def _sum(requests: Iterable[Resources]) -> Resources:
    return sum(requests, Resources())


TestExtender = ExtenderMachine.TestCase
TestExtender.settings = settings(
    max_examples=10_000 if os.environ.get("BAYPLAN_LONG") else 1_000, stateful_step_count=100
)
