"""Rollouts, scaling and repair: from any state to the target, and the contract on the way."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bayplan.inference.deployments import Deployment, Rollout
from bayplan.inference.shapes import Shape
from tests.rollout_world import (
    CORDONED,
    FAILING,
    NODE,
    ROUNDS,
    STATES,
    VERSIONS,
    World,
    assert_reached,
    chat,
    goes_whole,
    happen,
    settle,
)
from tests.scenes.children import fill, unit_slots


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
            pods.append(fill(slot, uid=slot.name, switched=True, **state))
    # Room for what is asked for, and for one more beside what is there where a unit cannot go
    # before its successor.
    displaced = any(pod.node in {CORDONED, FAILING} for pod in pods)
    used = sum(pod.node == NODE for pod in pods)
    beside = displaced or not deployment.rollout.max_unavailable
    # A unit of before may be larger, and one that serves goes for no other that finds no room.
    largest = max((pod.unit_size for pod in pods), default=0)
    room = (deployment.replicas + beside) * max(deployment.unit_size, largest)
    return World(deployment, pods, room=max(room, used))


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
        st.sampled_from(["fail", "delete", "flap", "edit", "scale", "ratio", "yield", "move"]),
        st.integers(0, 11),
    ),
)


@given(worlds(), st.lists(OPERATIONS, max_size=40))
def test_whatever_happens_in_between_the_contract_is_kept_and_the_target_reached(
    world: World, operations: list[tuple[str, int]]
) -> None:
    """Edits, scaling and failures come at any time, and plans may be out of date."""
    happen(world, operations, disturb)
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
        disturb_pod(world, name, number)


def disturb_pod(world: World, name: str, number: int) -> None:
    """Do something to one of the pods."""
    pod = list(world.pods.values())[number % len(world.pods)]
    if name == "delete":
        world.delete(pod.name)
    elif name == "move":
        world.move(number)
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


@given(
    st.tuples(st.integers(1, 3), st.integers(2, 3)),
    st.integers(4, 12),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2)), min_size=1, max_size=4),
)
def test_of_two_units_with_bounds_neither_keeps_room_that_the_other_needs_to_be_whole(
    ratio: tuple[int, int], room: int, losses: list[tuple[int, int]]
) -> None:
    """Who looks for room when a pod is lost gets it first; both serve in the end nevertheless."""
    of = chat("a", prefill=ratio[0], decode=ratio[1], bounds=(1, 3), replicas=2)
    world = World(of, [], room=room)
    settle(world)
    for lost, passes in losses:
        disturb_pod(world, "delete", lost)
        world.kubelet()
        world.planner()
        for _ in range(passes):
            world.operator()

    settle(world)

    assert [unit.ready for unit in world.units()] == [True, True]


@given(st.integers(1, 5), st.integers(0, 3), st.integers(0, 16), st.sampled_from([0, 60]))
def test_no_more_units_lose_what_they_have_beyond_the_least_than_wait_and_all_comes_to_rest(
    replicas: int, more: int, room: int, drain_s: int
) -> None:
    """Where the units that are added find no room, most of the others keep what they have."""
    of = chat("a", decode=3, bounds=(1, 3), replicas=replicas, drain_s=drain_s)
    world = World(of, [], room=room)
    settle(world)
    before = running(world)
    world.deployment = replace(of, replicas=replicas + more)

    rounds = settle(world)

    after = running(world)
    waiting = replicas + more - len(after)
    assert rounds < ROUNDS
    assert before.keys() <= after.keys()
    lost = [index for index, n in before.items() if after[index] < n]
    begun = len(after.keys() - before.keys())
    assert len(lost) <= begun + waiting
    at_least = sum(n == 2 for n in after.values())
    assert at_least >= min(waiting, len(after))


def running(world: World) -> dict[int, int]:
    """Return how many pods of each unit that serves have a node."""
    units = (unit for unit in world.units() if unit.ready)
    return {u.index: sum(pod.node is not None for pod in u.members) for u in units}
