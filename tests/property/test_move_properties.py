"""Moves whose replacement starts first: nobody is missed meanwhile, whatever comes in between."""

from dataclasses import replace

import pytest
from hypothesis import event, given, note
from hypothesis import strategies as st

from bayplan.inference.deployments import Rollout
from tests.rollout_world import World, assert_reached, chat, settle

#: What happens to replacements; nobody touches the pods that serve.
OPERATIONS = st.tuples(
    st.sampled_from(
        [
            *("operator", "operator", "planner", "kubelet", "move", "move"),
            *("spoil", "heal", "lose", "fail", "late"),
        ]
    ),
    st.integers(0, 11),
)


def worlds(*, max_surge: int, spare: int, replicas: int = 2, drain_s: int = 60) -> World:
    """Return a deployment whose units all serve, in a cluster with some room beside them."""
    how = Rollout(max_unavailable=0 if max_surge else 1, max_surge=max_surge)
    of = chat("a", decode=1, replicas=replicas, rollout=how, drain_s=drain_s)
    world = World(of, [], room=replicas * of.unit_size + spare)
    settle(world)
    return world


@given(
    st.integers(0, 2),
    st.integers(0, 2),
    st.sampled_from([0, 60]),
    st.lists(OPERATIONS, min_size=10, max_size=60),
)
def test_while_pods_are_moved_every_unit_goes_on_serving(
    max_surge: int, spare: int, drain_s: int, operations: list[tuple[str, int]]
) -> None:
    """Replacements start, fail, are lost, or get ready and not ready again; the operator may die
    between any two of its passes, for it remembers nothing.
    """
    world = worlds(max_surge=max_surge, spare=spare, drain_s=drain_s)
    begun: set[str] = set()
    for name, number in operations:
        note(f"{name} {number}")
        do(world, name, number)

        begun |= {pair.new.uid for pair in world.pairs()}
        assert world.used() <= world.room
        assert len(world.pairs()) <= max_surge
        assert all(unit.ready for unit in world.units())
    event(f"replacements: {len(begun)}")
    settle(world)

    assert_reached(world)
    assert not begun or max_surge


def do(world: World, name: str, number: int) -> None:
    """Let somebody act, or something happen to a replacement that does not serve yet."""
    if name in {"operator", "planner", "kubelet"}:
        getattr(world, name)()
    elif name == "move":
        world.move(number)
    elif name == "heal":
        world.spoiled.clear()
    elif name == "late":
        world.now += 100 * number
    else:
        starting = [pair.new for pair in world.pairs() if not pair.relieved]
        for new in starting[:1]:
            if name == "spoil":
                world.spoiled.add(new.uid)
            elif name == "lose":
                world.delete(new.name)
            elif new.node is not None:
                world.pods[new.name] = replace(new, ended=True, ready=False)


@pytest.mark.parametrize("comes_to_serve", [True, False])
@given(drain_s=st.sampled_from([0, 60]), number=st.integers(0, 11))
def test_a_replacement_takes_the_place_of_the_moved_pod_or_is_removed(
    *, comes_to_serve: bool, drain_s: int, number: int
) -> None:
    """It would stand beside it for ever, or the move would never be done."""
    world = worlds(max_surge=1, spare=1, drain_s=drain_s)
    before = {pod.uid for pod in world.pods.values()}
    world.move(number)
    (pair,) = world.pairs()
    world.spoiled = set() if comes_to_serve else {pair.new.uid}

    # Long enough for a replacement to start, whose time is not over.
    for _ in range(8):
        for act in ("operator", "planner", "kubelet"):
            do(world, act, 0)
            assert all(unit.ready for unit in world.units())
        world.now += 20
    settle(world)

    after = {pod.uid for pod in world.pods.values()}
    assert_reached(world)
    assert before - after == ({pair.old.uid} if comes_to_serve else set())
    assert after - before == ({pair.new.uid} if comes_to_serve else set())
    failed = world.failed.get(pair.old.uid, "")
    assert failed.startswith("plan-1 ") is not comes_to_serve
