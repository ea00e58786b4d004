"""A cluster with one deployment, whose operator, planner and kubelets can be asked to act in turn.

Each pass of the operator is checked against the contract of rollouts, whatever led to it.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from itertools import count
from typing import Any, TypeVar

from hypothesis import note
from hypothesis import strategies as st

from bayplan.api import names
from bayplan.api.pools import Role
from bayplan.cluster.keys import NodeName
from bayplan.cluster.resources import Resources
from bayplan.inference import rollout
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment, Pool
from bayplan.inference.pairs import Pair
from bayplan.inference.patches import MetadataPatch
from bayplan.inference.replacements import slot_beside
from bayplan.inference.rollout import Changes
from bayplan.inference.shapes import Shape
from bayplan.inference.slots import Slot, least_slots
from bayplan.inference.units import Around, Unit, units_of
from tests.scenes.children import fill

AnyWorld = TypeVar("AnyWorld", bound="World")

NODE, CORDONED, FAILING = NodeName("n1"), NodeName("cordoned"), NodeName("failing")
OWNER = "u-chat"
VERSIONS = ("a", "b", "c")

#: What a pod of a deployment may be in when a scene begins; None where there is none.
STATES = st.sampled_from(
    [
        {},
        {"node": NODE},
        {"node": NODE, "ready": True, "in_service": True},
        {"node": NODE, "ready": True, "in_service": True},
        {"node": CORDONED, "ready": True, "in_service": True},
        {"node": FAILING, "ready": True, "in_service": True},
        {"node": NODE, "drains_since": 9_999_990},
        {"node": NODE, "drains_since": 9_999_990, "yields": True},
        {"node": NODE, "ready": True, "drains_since": 9_999_999, "yields": True},
        {"node": NODE, "ended": True},
        {"node": NODE, "terminating": True},
        None,
    ]
)

#: Rounds of everybody in turn after which a deployment has long been settled.
ROUNDS = 80

#: Seconds between two rounds, so that no back-off outlasts them.
ROUND_S = 700


def chat(
    version: str,
    *,
    prefill: int = 1,
    decode: int = 2,
    bounds: tuple[int, int] | None = None,
    replicas: int = 1,
    **fields: Any,  # noqa: ANN401 - fields
) -> Deployment:
    """Return a deployment whose templates are of a version; `bounds` are those of both roles."""
    pools = tuple(
        Pool(
            name=name,
            role=role,
            count=n,
            bounds=bounds,
            template={"spec": version},
            requests=Resources(),
        )
        for name, role, n in (
            ("prefill", Role.PREFILL, prefill),
            ("decode", Role.DECODE, decode),
        )
    )
    fields = {"replicas": replicas, "min_replicas": replicas, **fields}
    return Deployment(namespace="ns", name="chat", uid=OWNER, pools=pools, **fields)


class World:
    """A cluster with room for some pods, its planner and kubelets, and one deployment."""

    def __init__(self, deployment: Deployment, pods: list[Child], *, room: int) -> None:
        self.deployment = deployment
        self.pods = {pod.name: pod for pod in pods}
        self.room = room
        self.held: frozenset[str] = frozenset()
        self.failures: dict[str, int] = {}
        self.leaving = frozenset(pod.uid for pod in pods if pod.yields)
        self.spoiled: set[str] = set()
        self.failed: dict[str, str] = {}
        self.now = 10_000_000
        self._uids = count()

    def around(self) -> Around:
        """Return what is known around the pods."""
        return Around(held=self.held, cordoned={CORDONED}, failing={FAILING}, leaving=self.leaving)

    def units(self) -> tuple[Unit, ...]:
        """Return the units that exist."""
        return units_of(self.deployment, self.pods.values(), self.around())

    def operator(self) -> Changes:
        """Do one pass of the operator, check that it keeps the contract, and return it."""
        found = rollout.changes(
            self.deployment,
            self.pods.values(),
            failures=self.failures,
            around=self.around(),
            now=self.now,
        )
        note(f"delete {[p.name for p in found.delete]} create {[s.name for s in found.create]}")
        self._check(found)
        for patch in found.patch:
            self.apply(patch)
        for pod in (*found.drain, *found.relieve):
            known = self.pods[pod.name]
            self.pods[pod.name] = replace(known, in_service=False, drains_since=self.now)
        for pod in found.serve:
            assert not (pod.yields and pod.uid in self.leaving), "a plan is at work on it"
            known = self.pods[pod.name]
            self.pods[pod.name] = replace(known, in_service=True, drains_since=0, yields=False)
        for pod in found.lift:
            self.pods[pod.name] = replace(self.pods[pod.name], gated=False)
        for pod in (*found.delete, *found.evict):
            self.delete(pod.name)
        for slot in found.create:
            self.pods[slot.name] = self.make(slot)
        self.failures = dict(found.failures)
        return found

    def apply(self, patch: MetadataPatch) -> None:
        """Write on a pod what the operator says of it."""
        pod = patch.pod
        if names.ANNOTATION_OUTDATED in patch.annotations:
            pod = replace(pod, outdated=patch.annotations[names.ANNOTATION_OUTDATED] == "true")
        if text := patch.annotations.get(names.ANNOTATION_SHAPE):
            pod = replace(pod, shape=Shape.parse(text))
        if text := patch.labels.get(names.LABEL_GANG_MIN_COUNT):
            pod = replace(pod, unit_size=int(text))
        if names.LABEL_REPRESENTS in patch.labels:
            pod = replace(pod, represents=patch.labels[names.LABEL_REPRESENTS] == "true")
        if names.ANNOTATION_GIVES_WAY_BY in patch.annotations:
            # Only that it is told when it is, and no more when it is not.
            assert bool(patch.annotations[names.ANNOTATION_GIVES_WAY_BY]) != bool(pod.gives_way_by)
            new = (new for new in self.pods.values() if new.replaces == pod.uid)
            until = max((each.serves_by for each in new), default=0)
            said = patch.annotations[names.ANNOTATION_GIVES_WAY_BY]
            pod = replace(pod, gives_way_by=until if said else 0)
        if text := patch.annotations.get(names.ANNOTATION_MOVE_FAILED):
            self.failed[pod.uid] = text
        if names.LABEL_MIN_UNITS in patch.labels:
            pod = replace(pod, min_units=int(patch.labels[names.LABEL_MIN_UNITS] or 0))
        self.pods[pod.name] = pod

    def make(self, slot: Slot) -> Child:
        """Return the pod that the operator makes for a slot."""
        uid, min_units = f"{slot.name}-{next(self._uids)}", self.deployment.min_units
        return fill(slot, uid=uid, min_units=min_units, switched=True, created_at=self.now)

    def pairs(self) -> list[Pair]:
        """Return the pods that are moved by starting their replacement first."""
        return [pair for unit in self.units() for pair in unit.pairs]

    def used(self) -> int:
        """Return how many pods have room, or a pin that holds it."""
        return sum(NODE in {pod.node, pod.pin} for pod in self.pods.values())

    def move(self, number: int) -> None:
        """Begin to move a pod, as who carries out a plan does, if there is room beside it."""
        old = list(self.pods.values())[number % len(self.pods)]
        slot = slot_beside(self.deployment, list(self.pods.values()), old.uid)
        if slot is None or self.used() >= self.room:
            return
        made = replace(
            self.make(slot),
            pin=NODE,
            plan="plan-1",
            replaces=old.uid,
            serves_by=self.now + (600 if number % 3 else 3 * ROUND_S),
        )
        assert slot.name not in self.pods
        self.pods[old.name] = replace(old, gives_way_by=made.serves_by)
        self.pods[slot.name] = made
        if number % 4 == 0:
            self.spoiled.add(made.uid)
        note(f"{slot.name} starts in the place of {old.name}")
        beyond = sum(bool(unit.live) for unit in self.units()) - self.deployment.replicas
        assert len(self.pairs()) + max(0, beyond) <= self.deployment.rollout.max_surge

    def planner(self) -> None:
        """Place what fits, and hold the rest.

        As planners know gangs: who waits is placed together, unless enough of the gang run, and
        how many that is they read from the pod that was made last.
        """
        free = self.room - self.used()
        for pod in self.pods.values():
            if pod.pin is not None and not pod.gated and pod.node is None:
                self.pods[pod.name] = replace(pod, node=pod.pin)  # kube-scheduler does
        held: set[str] = set()
        for unit in sorted(self.units(), key=lambda u: (not u.started, u.index)):
            waiting = [pod for pod in unit.live if pod.node is None]
            if not waiting:
                continue
            n_running = sum(pod.node is not None and pod.counts for pod in unit.live)
            newest = max(waiting, key=lambda pod: (pod.created_at, pod.name))
            short = newest.unit_size - n_running
            if short > 0 and not short <= len(waiting) <= free:
                held |= {pod.uid for pod in waiting}
                continue
            for pod in waiting:
                if free > 0:
                    free -= 1
                    self.pods[pod.name] = replace(pod, node=NODE, gated=False)
                else:
                    held.add(pod.uid)
        self.held = frozenset(held)

    def kubelet(self) -> None:
        """Have started pods serve, and those that end be gone."""
        self.pods = {
            name: replace(pod, ready=self._may_be_ready(pod))
            for name, pod in self.pods.items()
            if not pod.terminating
        }

    def _may_be_ready(self, pod: Child) -> bool:
        sound = not pod.ended and pod.uid not in self.spoiled
        return bool(pod.node and pod.in_service and sound)

    def delete(self, name: str) -> None:
        """Delete a pod: one that has no node is gone at once."""
        pod = self.pods[name]
        if pod.node is None:
            del self.pods[name]
        else:
            self.pods[name] = replace(pod, terminating=True, ready=False)

    def _check(self, found: Changes) -> None:
        """Assert what must hold of every pass."""
        before = self.units()
        deleted = {pod.name for pod in found.delete}
        away = deleted | {pod.name for pod in found.drain}
        n, how = self.deployment.replicas, self.deployment.rollout
        # Nothing is deleted twice, nothing is made under a name that is taken.
        assert len(deleted) == len(found.delete)
        assert not {slot.name for slot in found.create} & self.pods.keys()
        # No pod is made in a unit where a pod of another revision is.
        revisions = {u.index: {pod.revision for pod in u.pods} for u in before}
        for slot in found.create:
            assert revisions.get(slot.unit, set()) <= {slot.revision}
        # What serves stays above the floor, or is not made less.
        serving = [unit for unit in before if unit.ready]
        left = [unit for unit in serving if serves_without(unit, away)]
        assert len(left) >= min(len(serving), max(0, n - how.max_unavailable))
        # What serves from the newest template is not replaced, also after that was undone.
        newest = [unit for unit in serving if unit.newest and not unit.displaced]
        assert sum(not goes_whole(unit, away) for unit in newest) >= min(len(newest), n)
        for unit in serving:
            self._check_serving(unit, found, stays=unit in left)
        # No more units than allowed are made, and each of them whole.
        there = {u.index for u in before if any(p.name not in deleted for p in u.live)}
        fresh = {slot.unit for slot in found.create} - {u.index for u in before if u.live}
        doubled = sum(len(u.pairs) for u in before if u.index in there)
        doubled -= sum(pair.new.name in deleted for u in before for pair in u.pairs)
        assert not fresh or len(there | fresh) + max(0, doubled) <= n + how.max_surge
        # Who is made to go for a replacement is only missed if that does not serve.
        relieved = {pair.old.uid for u in before for pair in u.pairs if pair.new.ready}
        assert {pod.uid for pod in (*found.evict, *found.relieve)} <= relieved
        if self.deployment.drain_s:
            assert not any(pod.ready for pod in found.evict)
        self.check_fresh(found, fresh, before)

    def _check_serving(self, unit: Unit, found: Changes, *, stays: bool) -> None:
        """Assert that a unit that serves goes as a whole, or loses only what it need not have."""
        deleted = {pod.name for pod in found.delete}
        sound = [pod for pod in unit.members if pod.node not in {None, FAILING}]
        away = deleted | {pod.name for pod in found.drain}
        if self.deployment.drain_s:
            assert not any(pod.name in deleted and pod.ready for pod in sound)
        gone = [pod for pod in sound if pod.name in away]
        if not gone or goes_whole(unit, away):
            return
        # Less than is wanted is left only to let a unit begin that waits in vain.
        of, units = self.deployment, self.units()
        vain = sum(not u.started and u.lacks_room(self.held) for u in units if u.live)
        fewer = sum(u.scheduled for u in units) < of.replicas
        must = of.least if vain and fewer and not unit.displaced else of.wanted
        for pool in {pod.pool for pod in gone}:
            there = [pod for pod in unit.members if pod.node is not None and pod.pool == pool]
            rest = sum(pod not in gone for pod in there)
            assert rest >= must[pool]
        # Only where the ratio that is asked for needs something else is it no longer whole.
        broken = any(pod.node == FAILING for pod in unit.members)
        runs = unit.covers(self.deployment.least, lambda pod: pod.node is not None)
        assert stays or broken or (unit.newest and not runs)

    def check_fresh(self, found: Changes, fresh: set[int], before: tuple[Unit, ...]) -> None:
        """Assert that the units that are made are made whole."""
        made: dict[int, set[str]] = defaultdict(set)
        for slot in found.create:
            made[slot.unit].add(slot.name)
        for index in fresh:
            known = {p.name for u in before if u.index == index for p in u.pods}
            least = least_slots(self.deployment, index, self.deployment.revision)
            assert {slot.name for slot in least} <= made[index] | known


def serves_without(unit: Unit, away: Collection[str]) -> bool:
    """Return whether a unit serves when some pods are gone."""
    return unit.covers(unit.shape, lambda pod: pod.ready and pod.name not in away)


def goes_whole(unit: Unit, away: Collection[str]) -> bool:
    """Return whether every pod of a unit that is in service is gone."""
    return all(pod.name in away or not pod.ready or pod.drains_since for pod in unit.members)


def happen(
    world: AnyWorld,
    operations: Iterable[tuple[str, int]],
    disturb: Callable[[AnyWorld, str, int], None],
) -> None:
    """Let the programs work, and whatever else `disturb` does, in this order."""
    for name, number in operations:
        note(f"{name} {number}")
        if name in {"operator", "planner", "kubelet"}:
            getattr(world, name)()
        else:
            disturb(world, name, number)


def settle(world: World) -> int:
    """Let everybody work in turn until nothing changes; plans at work end.

    Return after how many rounds that was.
    """
    world.leaving = frozenset()
    for n in range(ROUNDS):
        before = (world.pods, world.held)
        world.pods = dict(world.pods)
        found = world.operator()
        world.planner()
        world.kubelet()
        world.now += ROUND_S
        if (world.pods, world.held) == before and found.retry_at is None:
            return n
    return ROUNDS


def assert_reached(world: World) -> None:
    """Assert that exactly what is asked for is there, and serves from the newest template."""
    assert not world.pairs()
    units = world.units()
    assert len(units) == world.deployment.replicas
    assert all(unit.newest and unit.ready for unit in units)
    for unit in units:
        assert Shape.count(engine.pool for engine in unit.engines) == world.deployment.wanted
        assert {pod.shape for pod in unit.members} == {world.deployment.least}
        assert {pod.unit_size for pod in unit.members} == {world.deployment.unit_size}
        assert sum(pod.represents for pod in unit.pods) == 1
    if world.deployment.rollout.max_surge:
        assert not any(unit.displaced for unit in units)
    found = world.operator()
    assert found == Changes(failures=found.failures)
