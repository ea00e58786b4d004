"""Replicas of several pods: one engine, all or nothing, from any state, whatever happens."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bayplan.api.pools import Role
from bayplan.cluster.resources import Resources
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment, Pool, Rollout
from bayplan.inference.rollout import Changes
from bayplan.inference.slots import least_slots
from bayplan.inference.units import Unit
from tests.rollout_world import NODE, OWNER, STATES, World, assert_reached, happen, settle
from tests.scenes.children import unit_slots

#: Pools of which one unit is made: several of a role, of replicas of one to three pods.
POOLS = st.lists(st.tuples(st.integers(1, 2), st.integers(1, 3)), min_size=1, max_size=3)


class Engines(World):
    """A cluster on which a replica of several pods is one engine."""

    def operator(self) -> Changes:
        """Do one pass of the operator, and check what it does to engines."""
        before = dict(self.pods)
        found = super().operator()
        there: dict[str, list[Child]] = defaultdict(list)
        for pod in before.values():
            if pod.replica_size > 1:
                there[pod.leader].append(pod)
        gone = {pod.name for pod in found.delete}
        for members in there.values():
            # No engine that has begun is left in part.
            if any(pod.name in gone and pod.node is not None for pod in members):
                assert all(pod.name in gone or pod.terminating for pod in members)
        for slot in found.create:
            # None gets a pod that the others do not know.
            others = there.get(slot.leader, []) if slot.pool.size > 1 else []
            assert all(pod.node is None and not pod.terminating for pod in others)
        return found

    def check_fresh(self, found: Changes, fresh: set[int], before: tuple[Unit, ...]) -> None:
        """Assert that of the units that are made every engine is, as soon as its place is free."""
        for index in fresh:
            old = {pod.name for unit in before if unit.index == index for pod in unit.pods}
            made = {slot.name for slot in found.create if slot.unit == index}
            for slot in least_slots(self.deployment, index, self.deployment.revision):
                waits_for = {slot.leader} | {name for name in old if name.startswith(slot.leader)}
                assert slot.name in made | old or waits_for & old


def chat(version: str, pools: list[tuple[int, int]], **fields: Any) -> Deployment:  # noqa: ANN401 - fields
    """Return a deployment of prefill pools with so many replicas of so many pods in a unit."""
    made = tuple(
        Pool(
            name=f"p{number}",
            role=Role.PREFILL,
            count=count,
            size=size,
            template={"spec": version},
            requests=Resources(),
        )
        for number, (count, size) in enumerate(pools)
    )
    return Deployment(namespace="ns", name="chat", uid=OWNER, pools=made, **fields)


@st.composite
def worlds(draw: st.DrawFn) -> Engines:
    """Return any deployment with pods in any state, of this or of an older revision."""
    replicas, unavailable = draw(st.integers(0, 2)), draw(st.integers(0, 1))
    how = Rollout(max_unavailable=unavailable, max_surge=1)
    pools = draw(POOLS)
    deployment = chat("a", pools, replicas=replicas, min_replicas=replicas, rollout=how)
    world = Engines(deployment, [], room=0)
    for index in draw(st.lists(st.integers(0, 3), unique=True, max_size=3)):
        of = chat(draw(st.sampled_from("ab")), pools)
        usual = draw(STATES)
        for slot in unit_slots(of, index, of.revision):
            state = draw(STATES) if draw(st.integers(0, 3)) == 0 else usual
            if state is not None:
                pod = world.make(slot)
                world.pods[slot.name] = replace(pod, gated="node" not in state, **state)
    used = sum(pod.node is not None for pod in world.pods.values())
    world.room = max((replicas + 1) * deployment.unit_size, used)
    return world


@given(worlds())
def test_from_any_state_every_engine_comes_to_serve(world: Engines) -> None:
    """A replica that waits for a pod that is never made would be found here."""
    settle(world)

    assert_reached(world)


OPERATIONS = st.one_of(
    st.sampled_from(["operator", "operator", "planner", "kubelet"]).map(lambda name: (name, 0)),
    st.tuples(
        st.sampled_from(["fail", "delete", "vanish", "edit", "scale", "ratio"]), st.integers(0, 11)
    ),
)


@given(worlds(), st.lists(OPERATIONS, max_size=30))
def test_whatever_happens_no_engine_is_left_in_part(
    world: Engines, operations: list[tuple[str, int]]
) -> None:
    """Pods fail, are deleted and vanish with their nodes while templates and sizes change."""
    happen(world, operations, disturb)
    world.room = max(world.room, 9 * (world.deployment.replicas + 1) * 2)

    settle(world)

    assert_reached(world)


def disturb(world: Engines, name: str, number: int) -> None:
    """Do something that the operator has no say in."""
    of = world.deployment
    if name == "edit":
        first = replace(of.pools[0], size=1 + number % 3)
        world.deployment = replace(of, pools=(first, *of.pools[1:]))
    elif name == "scale":
        world.deployment = replace(of, replicas=number % 3, min_replicas=0)
    elif name == "ratio":
        bounds = (1, 3) if number % 2 else None
        first = replace(of.pools[0], count=1 + number // 2 % 3, bounds=bounds)
        world.deployment = replace(of, pools=(first, *of.pools[1:]))
    elif world.pods:
        pod = list(world.pods.values())[number % len(world.pods)]
        if name == "delete":
            world.delete(pod.name)
        elif name == "vanish":
            del world.pods[pod.name]
        elif pod.node is not None:
            world.pods[pod.name] = replace(pod, node=NODE, ready=False, ended=True)
