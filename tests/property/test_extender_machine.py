"""No answer of the webhook ever over-commits a node, whatever order calls and events come in.

A world of nodes, pods and plans; a scheduler that asks about pods, several at a time, again where a
reply was lost or late, and binds what it was told; an operator that pins planned pods and moves
others; a planner that publishes plans, each of which supersedes the one before; and a watch that
is late, repeats itself, breaks, and lists anew. What is true of the world must fit its nodes at
every moment; once a list has been taken in full, the cache must equal one built from nothing.

A live watch is at most `LAG_S` behind; the scheduler binds within `BIND_S` or gives up. Both are
less than the webhook's `ASSUME_S`, which is why assumptions may end. `BAYPLAN_LONG=1` runs ten
times as much.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bayplan.cache import Cache
from bayplan.codec import PublishedPlan
from bayplan.plan import Bind, Certificate, Move, Plan, Verdict
from bayplan.policy import Order
from bayplan.snapshot import NodeName, Pod, PodKey, Resources
from bayplan_extender.view import View
from bayplan_extender.webhook.verbs import ASSUME_S, Verbs
from tests.builders import GPU, node, pod

BIND_S, LAG_S = 20.0, 5.0

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
class Call:
    """A filter call that is on its way: what the scheduler knew when it sent it."""

    number: int
    pod: Pod
    offered: tuple[NodeName, ...]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """The scheduler was told a node and is binding the pod."""

    pod: Pod
    node: NodeName
    until: float


class ExtenderMachine(RuleBasedStateMachine):
    """The world (`pods`, `log`, `plans`), the scheduler (`calls`, `attempts`), and the webhook."""

    def __init__(self) -> None:
        super().__init__()
        assert max(BIND_S, LAG_S) < ASSUME_S
        self.now = 0.0
        self.pods: dict[str, Pod] = {}
        self.log: list[Event] = []
        self.calls: list[Call] = []
        self.awaited: dict[str, int] = {}
        self.attempts: dict[str, Attempt] = {}
        self.made = 0
        self.view = View(clock=lambda: self.now)
        self.cache = self.view.cache
        self.cache.replace_nodes(node(name, gpus=gpus) for name, gpus in NODES.items())
        for kind in self.view.missing:
            self.view.done(kind)
        self.verbs = Verbs(self.view, clock=lambda: self.now)
        self.seen = 0  # events of the log that the watch has passed on
        self.is_broken = False
        self.plans: list[PublishedPlan] = []

    # The world.

    @rule(name=names, gpus=st.sampled_from([1, 2, 3, 4, 8]), gated=st.booleans())
    def pod_is_made(self, name: str, gpus: int, *, gated: bool) -> None:
        """A pod appears, gated or not, perhaps under the name of an earlier one."""
        if name not in self.pods:
            self._write(replace(pod(name, gpus=gpus), uid=self._uid(), waiting=gated))

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

    @rule(name=names, offered=offers)
    def scheduler_asks(self, name: str, offered: tuple[NodeName, ...]) -> None:
        """It sends a call about a pod; it no longer listens to an earlier one."""
        asked = self.pods.get(name)
        if asked is None or asked.waiting or (asked.node and asked.bound):
            return
        if asked.node:  # pinned: it looks at one node alone
            offered = (asked.node,)
        self.made += 1
        self.awaited[asked.uid] = self.made
        self.attempts.pop(asked.uid, None)
        self.calls.append(Call(number=self.made, pod=asked, offered=offered))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), lost=st.booleans(), again=st.booleans())
    def webhook_answers(self, data: st.DataObject, *, lost: bool, again: bool) -> None:
        """One of the calls arrives, in any order, perhaps twice; perhaps its reply is lost."""
        call = data.draw(st.sampled_from(self.calls))
        if not again:
            self.calls.remove(call)
        told = self._ask(call)
        if told is not None and not lost and self.awaited.get(call.pod.uid) == call.number:
            self.attempts[call.pod.uid] = Attempt(pod=call.pod, node=told, until=self.now + BIND_S)

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

    @rule(moved=names)
    def plan_is_published(self, moved: str) -> None:
        """A plan gives homes to gated pods, and perhaps moves one, where there is room in truth.

        It knows no more than the watch has shown.
        """
        room, binds, moves = self._truly_free(), list[Bind](), list[Move]()
        for waiting in self.pods.values():
            home = next((n for n in NODES if waiting.requests.fits(room[n])), None)
            if waiting.waiting and home is not None and self._is_known(waiting):
                room[home] = room[home] - waiting.requests
                binds.append(Bind(pod=waiting.key, uid=waiting.uid, node=home))
        victim = self.pods.get(moved)
        if victim is not None and victim.node and victim.bound and self._is_known(victim):
            others = (n for n in NODES if n != victim.node and victim.requests.fits(room[n]))
            target = next(others, None)
            if target is not None:
                moves.append(
                    Move(
                        pod=victim.key,
                        uid=victim.uid,
                        source=victim.node,
                        target=target,
                        owner=victim.owner,
                        priority=0,
                    )
                )
        self.plans = [replace(plan, phase="Superseded") for plan in self.plans]
        self.made += 1
        plan = Plan(certificate=CERTIFICATE, binds=tuple(binds), moves=tuple(moves))
        name = f"plan-{self.made}"
        self.plans.append(
            PublishedPlan(name=name, uid=name, sequence=self.made, plan=plan, phase="Executing")
        )
        self.plans = self.plans[-3:]

    @precondition(lambda self: self.plans)
    @rule(name=names)
    def pod_is_released(self, name: str) -> None:
        """The operator lifts a planned pod's gate and pins it."""
        there, plan = self.pods.get(name), self.plans[-1]
        homes = {bind.uid: bind.node for bind in plan.plan.binds}
        if there is not None and there.waiting and there.uid in homes and not plan.finished:
            self._write(replace(there, node=homes[there.uid], bound=False, waiting=False))

    @precondition(lambda self: self.plans and self.plans[-1].plan.moves)
    @rule()
    def pod_is_moved(self) -> None:
        """The operator evicts a victim, and pins what comes in its place to the target."""
        (move,) = self.plans[-1].plan.moves
        there = self.pods.get(move.pod.name)
        if there is None or there.uid != move.uid or self.plans[-1].finished:
            return
        self._write(there, gone=True)
        self._write(
            replace(there, uid=self._uid(), node=move.target, bound=False, replaces=move.uid)
        )

    @precondition(lambda self: self.plans)
    @rule(phase=st.sampled_from(["Completed", "Failed"]))
    def plan_ends(self, phase: str) -> None:
        """The plan is finished, or given up."""
        self.plans[-1] = replace(self.plans[-1], phase=phase)

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

    @rule(count=st.integers(0, 3))
    def plans_are_seen(self, count: int) -> None:
        """The watch of plans, which is another one, shows some of the plans as they are now."""
        self.view.plans = {plan.name: plan for plan in self.plans[: count or None]}
        self.view.reserve()

    @rule(name=st.sampled_from(list(NODES)), again=st.booleans())
    def node_goes_or_comes(self, name: NodeName, *, again: bool) -> None:
        """A node is deleted from under its pods, or made again."""
        if again:
            self.cache.set_node(node(name, gpus=NODES[name]))
        else:
            self.cache.remove_node(name)

    @rule(seconds=st.sampled_from([1.0, 4.0, 15.0, 60.0, 1000.0]))
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
        used = dict.fromkeys(NODES, 0)
        for there in self.pods.values():
            if there.node and there.bound:
                used[there.node] += there.requests[GPU]
        assert all(used[name] <= gpus for name, gpus in NODES.items()), used

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

    def _ask(self, call: Call) -> NodeName | None:
        asked, offered = call.pod, call.offered
        self.view.expire(self.now)
        before = self.cache.assumptions()
        reply = self.verbs.place(asked, offered)
        if reply.node is None:
            assert {name for name, _ in reply.refused} == set(offered)
            assert before == self.cache.assumptions()
            return None
        assert reply.node in offered
        promised = self.view.reservations(self.now)
        is_free = asked.node is None and self.cache.seen_node(asked) is None
        if is_free and promised.home(asked.uid) is None:
            left = self.cache.free(reply.node) - promised.on(reply.node, self.cache)
            assert left[GPU] >= 0, "took room that the plan has promised"
        assert self.verbs.place(asked, offered).node == reply.node
        return reply.node

    def _attempt(self, data: st.DataObject) -> Attempt:
        return self.attempts.pop(data.draw(st.sampled_from(sorted(self.attempts))))

    def _uid(self) -> str:
        self.made += 1
        return f"uid-{self.made}"

    def _is_known(self, there: Pod) -> bool:
        known = self.cache.pod(there.key)
        return known is not None and known.uid == there.uid

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
        self.view.current["pods"] = self.now

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
