"""Rollouts, scaling and repair: from any state to the target, and the contract on the way."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace
from itertools import count
from typing import Any

from hypothesis import given, note
from hypothesis import strategies as st

from bayplan.api import names
from bayplan.api.pools import Role
from bayplan.inference import rollout
from bayplan.inference.children import (
    Child,
    Deployment,
    Pool,
    Rollout,
    Slot,
    least_slots,
    unit_slots,
)
from bayplan.inference.parts import Around, Unit, units_of
from bayplan.inference.rollout import Changes
from bayplan.inference.shapes import Shape
from bayplan.inference.tellings import Telling
from bayplan.keys import NodeName
from bayplan.resources import Resources

NODE, CORDONED, FAILING = NodeName("n1"), NodeName("cordoned"), NodeName("failing")
OWNER = "u-chat"
VERSIONS = ("a", "b", "c")

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
        for telling in found.tell:
            self.tell(telling)
        for pod in found.drain:
            known = self.pods[pod.name]
            self.pods[pod.name] = replace(known, in_service=False, drains_since=self.now)
        for pod in found.serve:
            assert not (pod.yields and pod.uid in self.leaving), "a plan is at work on it"
            known = self.pods[pod.name]
            self.pods[pod.name] = replace(known, in_service=True, drains_since=0, yields=False)
        for pod in found.delete:
            self.delete(pod.name)
        for slot in found.create:
            self.pods[slot.name] = self.make(slot)
        self.failures = dict(found.failures)
        return found

    def tell(self, telling: Telling) -> None:
        """Write on a pod what the operator says of it."""
        pod = telling.pod
        if names.ANNOTATION_OUTDATED in telling.annotations:
            pod = replace(pod, outdated=telling.annotations[names.ANNOTATION_OUTDATED] == "true")
        if text := telling.annotations.get(names.ANNOTATION_SHAPE):
            pod = replace(pod, shape=Shape.parse(text))
        if text := telling.labels.get(names.LABEL_GANG_MIN_COUNT):
            pod = replace(pod, unit_size=int(text))
        if names.LABEL_MIN_UNITS in telling.labels:
            pod = replace(pod, floor=int(telling.labels[names.LABEL_MIN_UNITS] or 0))
        self.pods[pod.name] = pod

    def make(self, slot: Slot) -> Child:
        """Return the pod that the operator makes for a slot."""
        return Child(
            name=slot.name,
            uid=f"{slot.name}-{next(self._uids)}",
            owner_uid=OWNER,
            pool=slot.pool.name,
            unit=slot.unit,
            revision=slot.revision,
            unit_size=slot.unit_size,
            shape=slot.shape,
            floor=self.deployment.floor,
            replica=slot.index,
            worker=slot.worker,
            replica_size=slot.pool.size,
            gated=True,
            switched=True,
            created_at=self.now,
        )

    def planner(self) -> None:
        """Place what fits, and hold the rest.

        As planners know gangs: who waits is placed together, unless enough of the gang run, and
        how many that is they read from the pod that was made last.
        """
        free = self.room - sum(pod.node == NODE for pod in self.pods.values())
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
            name: replace(pod, ready=bool(pod.node and pod.in_service and not pod.ended))
            for name, pod in self.pods.items()
            if not pod.terminating
        }

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
        assert not fresh or len(there | fresh) <= n + how.max_surge
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
        for pool in {pod.pool for pod in gone}:
            there = [pod for pod in unit.members if pod.node is not None and pod.pool == pool]
            rest = sum(pod not in gone for pod in there)
            assert rest >= self.deployment.wanted[pool]
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


@st.composite
def deployments(draw: st.DrawFn, *, replicas: st.SearchStrategy[int]) -> Deployment:
    """Return any deployment."""
    unavailable = draw(st.integers(0, 2))
    surge = draw(st.integers(0 if unavailable else 1, 2))
    how = Rollout(max_unavailable=unavailable, max_surge=surge)
    return chat(
        draw(st.sampled_from(VERSIONS)),
        prefill=draw(st.integers(1, 2)),
        decode=draw(st.integers(1, 2)),
        bounds=draw(st.sampled_from([None, None, (1, 2)])),
        replicas=draw(replicas),
        rollout=how,
        drain_s=draw(st.sampled_from([0, 60])),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Return any deployment with any pods: each of any revision, in any state, or missing."""
    deployment = draw(deployments(replicas=st.integers(0, 4)))
    pods = []
    for index in draw(st.lists(st.integers(0, 6), unique=True, max_size=6)):
        of = chat(
            draw(st.sampled_from(VERSIONS)),
            prefill=draw(st.integers(1, 2)),
            decode=draw(st.integers(1, 3)),
        )
        usual = draw(STATES)
        for slot in unit_slots(of, index, of.revision):
            state = draw(STATES) if draw(st.integers(0, 4)) == 0 else usual
            if state is None:
                continue
            made: dict[str, Any] = {
                "name": slot.name,
                "uid": slot.name,
                "owner_uid": OWNER,
                "pool": slot.pool.name,
                "unit": index,
                "unit_size": slot.unit_size,
                "shape": slot.shape,
                "replica": slot.index,
                "revision": slot.revision,
                "gated": "node" not in state,
                "switched": True,
            }
            pods.append(Child(**made, **state))
    # Room for what is asked for, and for one more beside what is there where a unit cannot go
    # before its successor.
    displaced = any(pod.node in {CORDONED, FAILING} for pod in pods)
    used = sum(pod.node == NODE for pod in pods)
    room = deployment.replicas * deployment.unit_size
    if displaced or not deployment.rollout.max_unavailable:
        largest = max((pod.unit_size for pod in pods), default=0)
        room = (deployment.replicas + 1) * max(deployment.unit_size, largest)
    return World(deployment, pods, room=max(room, used))


def settle(world: World) -> None:
    """Let everybody work in turn until nothing changes; plans at work end."""
    world.leaving = frozenset()
    for _ in range(ROUNDS):
        before = (world.pods, world.held)
        world.pods = dict(world.pods)
        found = world.operator()
        world.planner()
        world.kubelet()
        world.now += ROUND_S
        if (world.pods, world.held) == before and found.retry_at is None:
            return


def assert_reached(world: World) -> None:
    """Assert that exactly what is asked for is there, and serves from the newest template."""
    units = world.units()
    assert len(units) == world.deployment.replicas
    assert all(unit.newest and unit.ready for unit in units)
    for unit in units:
        assert Shape.count(engine.pool for engine in unit.engines) == world.deployment.wanted
        assert {pod.shape for pod in unit.members} == {world.deployment.least}
        assert {pod.unit_size for pod in unit.members} == {world.deployment.unit_size}
    if world.deployment.rollout.max_surge:
        assert not any(unit.displaced for unit in units)
    found = world.operator()
    assert found == Changes(failures=found.failures)


@given(worlds())
def test_from_any_state_everybody_in_turn_reaches_the_target(world: World) -> None:
    """A rollout that could get stuck would be found here, on a full cluster too."""
    settle(world)

    assert_reached(world)


OPERATIONS = st.one_of(
    st.sampled_from(["operator", "operator", "operator", "planner", "planner", "kubelet"]).map(
        lambda name: (name, 0)
    ),
    st.tuples(
        st.sampled_from(["fail", "delete", "flap", "edit", "scale", "ratio", "yield"]),
        st.integers(0, 11),
    ),
)


@given(worlds(), st.lists(OPERATIONS, max_size=40))
def test_whatever_happens_in_between_the_contract_is_kept_and_the_target_reached(
    world: World, operations: list[tuple[str, int]]
) -> None:
    """Edits, scaling and failures come at any time, and plans may be out of date."""
    for name, number in operations:
        note(f"{name} {number}")
        if name in {"operator", "planner", "kubelet"}:
            getattr(world, name)()
        else:
            disturb(world, name, number)
    world.room = max(world.room, world.deployment.unit_size * (world.deployment.replicas + 1))

    settle(world)

    assert_reached(world)


def disturb(world: World, name: str, number: int) -> None:
    """Do something that the operator has no say in."""
    of = world.deployment
    if name == "edit":
        version = VERSIONS[number % len(VERSIONS)]
        pools = tuple(replace(pool, template={"spec": version}) for pool in of.pools)
        world.deployment = replace(of, pools=pools)
    elif name == "scale":
        world.deployment = replace(of, replicas=number % 5, min_replicas=0)
    elif name == "ratio":
        counts = (1 + number % 2, 1 + number // 2 % 2)
        bounds = (1, 2) if number > 7 else None
        pools = tuple(
            replace(pool, count=count, bounds=bounds)
            for pool, count in zip(of.pools, counts, strict=True)
        )
        world.deployment = replace(of, pools=pools)
    elif world.pods:
        pod = list(world.pods.values())[number % len(world.pods)]
        if name == "delete":
            world.delete(pod.name)
        elif name == "yield":
            world.leaving ^= {pod.uid}
            if pod.uid in world.leaving and pod.in_service and pod.ready:
                out = replace(pod, in_service=False, drains_since=world.now, yields=True)
                world.pods[pod.name] = out
        elif name == "flap":
            world.pods[pod.name] = replace(pod, ready=False)
        elif pod.node is not None:
            world.pods[pod.name] = replace(pod, ready=False, ended=True)


@given(worlds())
def test_a_paused_rollout_lets_what_serves_alone(world: World) -> None:
    """Whole older units stay; what has to be made anyway is made from the newest template."""
    world.deployment = replace(
        world.deployment, rollout=replace(world.deployment.rollout, paused=True)
    )
    serving = [unit for unit in world.units() if unit.ready and not unit.displaced]

    found = world.operator()

    gone = {pod.name for pod in (*found.delete, *found.drain)}
    n_kept = sum(not goes_whole(unit, gone) for unit in serving)
    assert n_kept == min(len(serving), world.deployment.replicas)


@given(worlds(), st.integers(0, 20), st.integers(1, 3), st.integers(1, 3))
def test_whatever_room_there_is_no_unit_is_left_in_part(
    world: World, room: int, prefill: int, decode: int
) -> None:
    """What runs is whole by the ratio that it came to, and within the bounds if there are any."""
    world.room = max(room, sum(pod.node == NODE for pod in world.pods.values()))
    settle(world)
    ratio = {"prefill": prefill, "decode": decode}
    world.deployment = replace(
        world.deployment,
        pools=tuple(
            replace(pool, count=ratio[pool.name], bounds=(1, 3) if pool.bounds else None)
            for pool in world.deployment.pools
        ),
    )

    settle(world)

    for unit in world.units():
        have = Shape.count(engine.pool for engine in unit.engines if engine.begun)
        assert unit.scheduled or not have
        if world.deployment.pools[0].bounds and have:
            assert all(1 <= have[pool] <= 3 for pool in ratio)


@given(st.integers(1, 4), st.integers(1, 2), st.integers(1, 2), st.data())
def test_more_of_a_role_without_room_changes_nothing_that_runs(
    replicas: int, prefill: int, decode: int, data: st.DataObject
) -> None:
    """A ratio that finds no room must not cost what is there."""
    of = chat("a", prefill=prefill, decode=decode, replicas=replicas)
    world = World(of, [], room=replicas * of.unit_size)
    settle(world)
    before = {pod.uid for pod in world.pods.values() if pod.ready}
    counts = (prefill + data.draw(st.integers(0, 2)), decode + data.draw(st.integers(1, 2)))
    pools = tuple(replace(p, count=n) for p, n in zip(of.pools, counts, strict=True))
    world.deployment = replace(of, pools=pools)

    settle(world)

    assert len(before) == replicas * of.unit_size
    assert {pod.uid for pod in world.pods.values() if pod.ready} == before
    assert all(unit.ready for unit in world.units())


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 12))
def test_units_with_bounds_take_the_room_that_there_is(
    replicas: int, prefill: int, decode: int, room: int
) -> None:
    """As many units as find room for their least, and then as much of the ratio as fits."""
    of = chat("a", prefill=prefill, decode=decode, bounds=(1, 3), replicas=replicas)
    world = World(of, [], room=room)

    settle(world)

    running = sum(pod.node is not None for pod in world.pods.values())
    whole = sum(unit.ready for unit in world.units())
    assert whole == min(replicas, room // 2)
    assert running == (min(room, replicas * of.unit_size) if whole == replicas else running)
