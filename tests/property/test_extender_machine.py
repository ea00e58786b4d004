"""No answer of the webhook ever over-commits a node, whatever order calls and events come in.

A world of nodes, pods and plans; a scheduler that asks about pods, several at a time, again where a
reply was lost or late, and binds what it was told, a pinned pod only where it finds room itself; an
operator that pins planned pods and moves others; a planner that publishes plans, each of which
supersedes the one before; and a watch that is late, repeats itself, breaks, and lists anew. What is
true of the world must fit its nodes at every moment; once a list has been taken in full, the cache
must equal one built from nothing.

A live watch is at most `LAG_S` behind; the scheduler binds within `BIND_S` or gives up. Both are
less than the webhook's `ASSUME_S`, which is why assumptions may end. `HYPOTHESIS_PROFILE=thorough`
makes a million steps.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bayplan.answers import Reservations
from bayplan.cache import Cache
from bayplan.cluster.keys import NodeName, PodKey
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.codec import PublishedPlan
from bayplan.plan import Bind, Certificate, Move, Plan, Verdict
from bayplan.policy import Order
from bayplan_extender.view import View
from bayplan_extender.webhook.verbs import ASSUME_S, Verbs
from tests.builders import GPU, node, pod

#: A million steps take seven minutes of a core.
pytestmark = pytest.mark.timeout(3600)

T = TypeVar("T")

BIND_S, LAG_S = 20.0, 5.0

#: GPUs by node.
NODES = {NodeName("n1"): 8, NodeName("n2"): 4, NodeName("n3"): 4}
NAMES = ("a", "b", "c", "d", "e", "f")

CERTIFICATE = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)

#: Which of several things; counted round.
picks = st.integers(0, len(NAMES) - 1)
#: True but for one in six.
mostly = picks.map(bool)
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

    @rule(gpus=st.sampled_from([1, 2, 3, 4, 4, 8]), gated=st.booleans(), pick=picks)
    def pod_is_made(self, gpus: int, pick: int, *, gated: bool) -> None:
        """A pod appears, gated or not, perhaps under the name of an earlier one."""
        name = _one([name for name in NAMES if name not in self.pods], pick)
        if name is not None:
            self._write(replace(pod(name, gpus=gpus), uid=self._uid(), waiting=gated))

    @precondition(lambda self: self.pods)
    @rule(pick=picks, stays=mostly)
    def pod_changes(self, pick: int, *, stays: bool) -> None:
        """A pod goes, perhaps while it is being bound; or changes in what means nothing to us."""
        there = _one(list(self.pods.values()), pick)
        if there is not None:
            self._write(there, gone=not stays)

    # The scheduler.

    @rule(pick=picks, offered=offers, soon=mostly, heard=mostly, quick=st.booleans())
    def scheduler_asks(
        self, pick: int, offered: tuple[NodeName, ...], *, soon: bool, heard: bool, quick: bool
    ) -> None:
        """It sends a call about a pod; it no longer listens to an earlier one.

        The call may be on its way for long; the reply may be lost; the binding may take its time.
        """
        asked = _one([p for p in self.pods.values() if not p.waiting and not _is_bound(p)], pick)
        if asked is None:
            return
        if asked.node:  # pinned: it looks at one node alone
            offered = (asked.node,)
        self.made += 1
        self.awaited[asked.uid] = self.made
        self.attempts.pop(asked.uid, None)
        call = Call(number=self.made, pod=asked, offered=offered)
        if not soon:
            self.calls.append(call)
            return
        self._answer(call, heard=heard)
        if quick and asked.uid in self.attempts:
            self._bind(self.attempts.pop(asked.uid))

    @precondition(lambda self: self.calls)
    @rule(pick=picks, heard=mostly, once=mostly)
    def call_arrives_late(self, pick: int, *, heard: bool, once: bool) -> None:
        """One of the calls on their way arrives, in any order, perhaps twice."""
        call = self.calls[pick % len(self.calls)]
        if once:
            self.calls.remove(call)
        self._answer(call, heard=heard)

    @precondition(lambda self: self.attempts)
    @rule(pick=picks, works=mostly)
    def scheduler_binds(self, pick: int, *, works: bool) -> None:
        """A binding that took its time reaches the API server, or fails."""
        attempt = self.attempts.pop(sorted(self.attempts)[pick % len(self.attempts)])
        if works:
            self._bind(attempt)

    # Planner and operator.

    @rule(pick=picks, shown=mostly)
    def plan_is_published(self, pick: int, *, shown: bool) -> None:
        """A plan gives homes to gated pods, and perhaps moves one, where there is room in truth.

        It knows no more than the watch has shown, and supersedes the plan before. The webhook
        may come to see it at once.
        """
        room, binds, moves = self._truly_free(), list[Bind](), list[Move]()
        for waiting in filter(self._is_known, self.pods.values()):
            home = next((n for n in NODES if waiting.requests.fits(room[n])), None)
            if waiting.waiting and home is not None:
                room[home] = room[home] - waiting.requests
                binds.append(Bind(pod=waiting.key, uid=waiting.uid, node=home))
        victim = _one([p for p in filter(self._is_known, self.pods.values()) if _is_bound(p)], pick)
        for target in NODES if victim is not None else ():
            if (
                victim
                and not moves
                and target != victim.node
                and victim.requests.fits(room[target])
            ):
                moves.append(_move(victim, target))
        self.made += 1
        plan = Plan(certificate=CERTIFICATE, binds=tuple(binds), moves=tuple(moves))
        name = f"plan-{self.made}"
        made = PublishedPlan(name=name, uid=name, sequence=self.made, plan=plan, phase="Executing")
        self.plans = [*(replace(old, phase="Superseded") for old in self.plans[-2:]), made]
        if shown:
            self._show_plans(0)

    @precondition(lambda self: self.plans and not self.plans[-1].finished)
    @rule(pick=picks)
    def pod_is_released(self, pick: int) -> None:
        """The operator lifts a planned pod's gate and pins it."""
        homes = {bind.uid: bind.node for bind in self.plans[-1].plan.binds}
        there = _one([p for p in self.pods.values() if p.waiting and p.uid in homes], pick)
        if there is not None:
            self._write(replace(there, node=homes[there.uid], bound=False, waiting=False))

    @precondition(lambda self: self.plans and not self.plans[-1].finished)
    @rule()
    def pod_is_moved(self) -> None:
        """The operator evicts a victim, and pins what comes in its place to the target."""
        for move in self.plans[-1].plan.moves:
            there = self.pods.get(move.pod.name)
            if there is not None and there.uid == move.uid:
                self._write(there, gone=True)
                made = replace(there, uid=self._uid(), replaces=move.uid)
                self._write(replace(made, node=move.target, bound=False))

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
    @rule(back=st.integers(1, 20))
    def watch_repeats_itself(self, back: int) -> None:
        """An event of a pod that is still there comes again, after later ones."""
        event = self.log[max(0, self.seen - back)]
        known = self.cache.pod(event.pod.key)
        if event.gone or (known is not None and known.uid == event.pod.uid):
            self._apply(event)

    @rule(holds=st.booleans())
    def watch_breaks(self, *, holds: bool) -> None:
        """Nothing is passed on until everything is listed anew."""
        self.is_broken = self.is_broken or not holds

    @rule(behind=st.integers(0, 3))
    def pods_are_listed(self, behind: int) -> None:
        """The whole collection is listed, and the watch resumes where the list was made.

        More may have happened by the time it arrives. It is a consistent read (no resourceVersion
        is asked for), so it never shows less than the watch has shown.
        """
        at = max(self.seen, len(self.log) - behind)
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
        self._show_plans(count)

    @rule(name=st.sampled_from(list(NODES)), again=st.booleans())
    def node_goes_or_comes(self, name: NodeName, *, again: bool) -> None:
        """A node is deleted from under its pods, or made again."""
        if again:
            self.cache.set_node(node(name, gpus=NODES[name]))
        else:
            self.cache.remove_node(name)

    @rule(seconds=st.sampled_from([1.0, 1.0, 4.0, 15.0, 60.0, 1000.0]))
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

    def _show_plans(self, count: int) -> None:
        """Show the first plans, or with 0 all."""
        self.view.plans = {plan.name: plan for plan in self.plans[: count or None]}
        self.view.reserve()

    def _answer(self, call: Call, *, heard: bool) -> None:
        told = self._ask(call)
        heard = heard and self.awaited.get(call.pod.uid) == call.number
        if told is not None and heard and (not call.pod.node or self._has_room(call.pod)):
            self.attempts[call.pod.uid] = Attempt(pod=call.pod, node=told, until=self.now + BIND_S)

    def _has_room(self, pinned: Pod) -> bool:
        """Return whether the scheduler's own filters offer a pinned pod its node.

        The webhook leaves that to them: a scheduler knows best what it has bound, or is binding.
        """
        room = node("", gpus=NODES[NodeName(str(pinned.node))]).allocatable
        for there in self.pods.values():
            if _is_bound(there) and there.node == pinned.node:
                room = room - there.requests
        for attempt in self.attempts.values():
            if attempt.node == pinned.node and attempt.pod.uid != pinned.uid:
                room = room - attempt.pod.requests
        return pinned.requests.fits(room)

    def _bind(self, attempt: Attempt) -> None:
        """Bind as the API server does: this very pod, once."""
        there = self.pods.get(attempt.pod.key.name)
        if there is not None and there.uid == attempt.pod.uid and not _is_bound(there):
            self._write(replace(there, node=attempt.node, bound=True, waiting=False))

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
        place = self.cache.seen_node(asked) or promised.source(asked.uid)
        if not (asked.node or place or promised.home(asked.uid)):
            left = self.cache.free(reply.node) - promised.on(reply.node, self.cache)
            assert left[GPU] >= 0, "took room that the plan has promised"
        assert self.verbs.place(asked, offered).node == reply.node
        return reply.node

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


def _is_bound(there: Pod) -> bool:
    return there.node is not None and there.bound


def _one(things: Sequence[T], pick: int) -> T | None:
    return things[pick % len(things)] if things else None


def _move(victim: Pod, target: NodeName) -> Move:
    assert victim.node is not None
    return Move(
        pod=victim.key,
        uid=victim.uid,
        source=victim.node,
        target=target,
        owner=victim.owner,
        priority=0,
    )


class Forgetful(ExtenderMachine):
    """A webhook that assumes nothing of what it has answered."""

    def __init__(self) -> None:
        super().__init__()
        self.cache.assume = lambda *_, **__: None  # type: ignore[method-assign]


class Hasty(ExtenderMachine):
    """A webhook whose assumptions end on time, however far the watch has come.

    It is noticed while the watch is broken: so it is from the beginning.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_broken = True
        self.view.expire = self.cache.expire  # type: ignore[method-assign]


class Generous(ExtenderMachine):
    """A webhook that gives away the room that plans have promised."""

    def __init__(self) -> None:
        super().__init__()
        self.verbs = Verbs(_Unreserved(self.view), clock=lambda: self.now)


class _Unreserved(View):
    def __init__(self, view: View) -> None:
        self.__dict__ = view.__dict__

    def reservations(self, _: float) -> Reservations:
        return Reservations()


@pytest.mark.parametrize("machine", [Forgetful, Hasty, Generous])
def test_the_machine_notices_a_webhook_that_is_wrong(machine: type[ExtenderMachine]) -> None:
    """A machine that does nothing of interest proves nothing."""
    few = settings(
        max_examples=1_000,
        stateful_step_count=100,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=few)


IS_LONG = settings.get_current_profile_name() == "thorough"

TestExtender = ExtenderMachine.TestCase
TestExtender.settings = settings(max_examples=11_000 if IS_LONG else 1_000, stateful_step_count=100)
