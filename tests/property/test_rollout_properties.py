"""Rollouts, scaling and repair: from any state to the target, and the contract on the way."""

from collections import defaultdict
from dataclasses import replace
from itertools import count
from typing import Any

from hypothesis import given, note
from hypothesis import strategies as st

from bayplan.api.pools import Role
from bayplan.inference import rollout
from bayplan.inference.children import Child, Deployment, Pool, Rollout, Slot, unit_slots
from bayplan.inference.parts import Around, Unit, units_of
from bayplan.inference.rollout import Changes
from bayplan.snapshot import NodeName, Resources

NODE, CORDONED, FAILING = NodeName("n1"), NodeName("cordoned"), NodeName("failing")
OWNER = "u-chat"
VERSIONS = ("a", "b", "c")

#: Rounds of everybody in turn after which a deployment has long been settled.
ROUNDS = 80

#: Seconds between two rounds, so that no back-off outlasts them.
ROUND_S = 700


def chat(version: str, *, decode: int = 2, replicas: int = 1, **fields: Any) -> Deployment:  # noqa: ANN401 - fields
    """Return a deployment whose templates are of a version."""
    pools = tuple(
        Pool(name=name, role=role, count=n, template={"spec": version}, requests=Resources())
        for name, role, n in (("prefill", Role.PREFILL, 1), ("decode", Role.DECODE, decode))
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
        for pod in found.mark:
            self.pods[pod.name] = replace(pod, outdated=not pod.outdated)
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

    def make(self, slot: Slot) -> Child:
        """Return the pod that the operator makes for a slot."""
        return Child(
            name=slot.name,
            uid=f"{slot.name}-{next(self._uids)}",
            owner_uid=OWNER,
            pool=slot.pool.name,
            unit=slot.unit,
            revision=slot.revision,
            unit_size=self.deployment.unit_size,
            replica=slot.index,
            worker=slot.worker,
            replica_size=slot.pool.size,
            gated=True,
            switched=True,
            created_at=self.now,
        )

    def planner(self) -> None:
        """Place what fits, whole units only, what runs in part first; hold the rest."""
        free = self.room - sum(pod.node == NODE for pod in self.pods.values())
        held: set[str] = set()
        for unit in sorted(self.units(), key=lambda u: (not u.started, u.index)):
            waiting = [pod for pod in unit.live if pod.node is None]
            if unit.whole and len(waiting) <= free:
                free -= len(waiting)
                for pod in waiting:
                    self.pods[pod.name] = replace(pod, node=NODE, gated=False)
            else:
                held |= {pod.uid for pod in waiting}
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
        left = [u for u in serving if not any(m.name in away for m in u.members)]
        assert len(left) >= min(len(serving), max(0, n - how.max_unavailable))
        # What serves from the newest template stays, also after that was undone.
        newest = [unit for unit in serving if unit.newest and not unit.displaced]
        assert sum(unit in left for unit in newest) >= min(len(newest), n)
        # A unit that serves goes as a whole, unless the hardware under a part of it is broken,
        # and is out of service before.
        for unit in serving:
            gone = [pod for pod in unit.members if pod.name in away]
            broken = [pod for pod in unit.members if pod.node == FAILING]
            assert len(gone) in {0, len(unit.members)} or gone == broken
            if self.deployment.drain_s and gone != broken:
                assert not any(pod.name in deleted for pod in unit.members)
        # No more units than allowed are made, and each of them whole.
        there = {u.index for u in before if any(p.name not in deleted for p in u.live)}
        fresh = {slot.unit for slot in found.create} - {u.index for u in before if u.live}
        assert not fresh or len(there | fresh) <= n + how.max_surge
        self.check_fresh(found, fresh, before)

    def check_fresh(self, found: Changes, fresh: set[int], before: tuple[Unit, ...]) -> None:
        """Assert that the units that are made are made whole."""
        made: dict[int, set[str]] = defaultdict(set)
        for slot in found.create:
            made[slot.unit].add(slot.name)
        for index in fresh:
            known = {p.name for u in before if u.index == index for p in u.pods}
            assert len(made[index] | known) >= self.deployment.unit_size


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
        decode=draw(st.integers(1, 2)),
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
        of = chat(draw(st.sampled_from(VERSIONS)), decode=draw(st.integers(1, 2)))
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
                "unit_size": of.unit_size,
                "revision": slot.revision,
                "gated": "node" not in state,
                "switched": True,
            }
            pods.append(Child(**made, **state))
    # Room for what is asked for, and for one more where a unit cannot go before its successor.
    displaced = any(pod.node in {CORDONED, FAILING} for pod in pods)
    n_units = deployment.replicas + (displaced or deployment.rollout.max_unavailable == 0)
    used = sum(pod.node == NODE for pod in pods)
    return World(deployment, pods, room=max(n_units * 3, used))


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
    world.room = max(world.room, 3 * (world.deployment.replicas + 1))

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
        pools = (of.pools[0], replace(of.pools[1], count=1 + number % 2))
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
    n_kept = sum(not any(pod.name in gone for pod in unit.members) for unit in serving)
    assert n_kept == min(len(serving), world.deployment.replicas)
