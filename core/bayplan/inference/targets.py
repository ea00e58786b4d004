"""What a unit of the newest revision is to have next, on its way to the ratio that is asked for.

    lacks what makes it whole  ──▶ gets that, and nothing else before
    whole, has too little      ──▶ all that it lacks is asked for at once; where the plan finds no
                                   room for that, one replica after the other, if what a unit may
                                   have leaves the choice (`Pool.bounds`); units that are not whole
                                   go first (`Growth`)
    whole, has too much        ──▶ the surplus goes, once what it lacks is there or has no room
    whole, another one waits in vain  ──▶ what it has beyond the least may go for that (`sharing`)

What runs in a unit goes on while it grows: the unit is whole by the shape that its pods say
(`Unit.shape`) until all that a new ratio adds to that serves. So a ratio that finds no room changes
nothing. Where one role is to get what another gives up, in a unit that may have nothing in between,
the unit has to give first (`swaps`): it serves nobody meanwhile, and `rollout` says when it may.

All replicas that are waiting in a unit are placed together or not at all: the size of the gang that
their labels say is what runs and what is asked for.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import count

from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment, Pool
from bayplan.inference.shapes import Shape
from bayplan.inference.slots import Slot, slots_of
from bayplan.inference.units import Around, Engine, Unit

#: A replica of a unit: its pool and its number there.
_Key = tuple[str, int]


class Growth(Enum):
    """What a whole unit may ask for, so that it takes no room that others need to be whole."""

    GIVES = -1  #: nothing, and what it has beyond the least of the spec goes
    NOTHING = 0
    LEAST = 1  #: what the spec asks for at least
    ALL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a unit is to have next.

    Attributes:
        shape: What makes it whole from now on.
        slots: The pods that it is to have, those that are to stay included.
        together: How many pods of the unit are placed together, those that run included.
        surplus: Pods that run and are to go now, all of the replicas they are of.
        may_swap: Whether the plan finds no room for what a whole unit lacks, but might if it gave
            up others, which it may not do while it is to be whole.
    """

    shape: Shape
    slots: tuple[Slot, ...] = field(repr=False)
    together: int
    surplus: tuple[Child, ...]
    may_swap: bool


def target_of(
    deployment: Deployment,
    unit: Unit,
    around: Around,
    *,
    growth: Growth,
    swaps: bool = False,
) -> Target:
    """Return what a unit is to have next.

    Args:
        deployment: Whose unit it is.
        unit: A unit of its newest revision.
        around: What the newest plan has no room for, and which pods are to leave their nodes.
        growth: What it may ask for beyond what makes it whole.
        swaps: Whether it may give up replicas first that it needs to be whole as it is now.
    """
    shape = deployment.least if swaps else unit.shape
    most = deployment.least if growth is Growth.GIVES else deployment.wanted
    state = _State.of(deployment, unit, shape, around, wanted=most)
    asked, no_room = _asked(unit, state, around.held, growth=growth)
    growing = state.covered and bool(asked)
    going = () if growing and not no_room else state.surplus
    stay = [e for e in (*state.kept, *state.surplus) if e not in going]
    together = _together(deployment, stay, asked, shape)
    return Target(
        shape=shape,
        together=together,
        slots=slots_of(
            deployment,
            unit.index,
            unit.made_from,
            replicas={_key(engine) for engine in stay} | asked,
            together=together,
            shape=shape,
        ),
        surplus=tuple(pod for engine in going for pod in engine.pods),
        may_swap=growing and no_room and _gives_enough(deployment, state, asked),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """The replicas of a unit that have begun to run, and what it lacks.

    Attributes:
        kept: Those that may stay.
        surplus: Those beyond what is wanted, and beyond what makes it whole.
        covered: Whether those that have nodes make it whole.
        leaving: Whether surplus is there still, or ending.
        needed: What it lacks to be whole; or, if it is, to have the least of the spec.
        more: What it then lacks of what is wanted, such that roles grow in step.
    """

    kept: tuple[Engine, ...]
    surplus: tuple[Engine, ...]
    covered: bool
    leaving: bool
    needed: tuple[_Key, ...]
    more: tuple[_Key, ...]

    @classmethod
    def of(
        cls, deployment: Deployment, unit: Unit, shape: Shape, around: Around, *, wanted: Shape
    ) -> "_State":
        """Return how a unit is with respect to what is wanted and what makes it whole."""
        kept: list[Engine] = []
        surplus: list[Engine] = []
        most = {p.name: max(wanted[p.name], shape[p.name]) for p in deployment.pools}
        for pool in deployment.pools:
            begun = [e for e in unit.engines if e.pool == pool.name and e.begun]
            if len(begun) > most[pool.name]:
                begun.sort(key=lambda engine: _worth(engine, around))
            kept += begun[: most[pool.name]]
            surplus += begun[most[pool.name] :]
        covered = shape.covered_by(engine.pool for engine in kept if engine.placed)
        have = {_key(engine) for engine in kept}
        # The number of a pod that stands aside is taken, too.
        taken = {(pod.pool, pod.replica) for pod in unit.aside}
        least = deployment.least if covered else shape
        needed = _lacking(deployment.pools, have, least, taken)
        return cls(
            kept=tuple(kept),
            surplus=tuple(surplus),
            covered=covered,
            leaving=bool(surplus) or _any_ends_beyond(unit, most),
            needed=needed,
            more=_lacking(deployment.pools, have | set(needed), wanted, taken),
        )


def _worth(engine: Engine, around: Around) -> tuple[bool, bool, bool, bool, int]:
    """Return a key by which those come first that are to stay.

    What serves stays, also on a node that is to be left: the unit goes on there until it is moved.
    """
    leaves = any(around.displaces(pod) for pod in engine.pods)
    ready = engine.has(lambda pod: pod.ready)
    return engine.draining, not engine.placed, not ready, leaves, engine.index


def _any_ends_beyond(unit: Unit, most: Mapping[str, int]) -> bool:
    """Return whether a pod that ran beyond what a unit may have is ending."""
    ending = (pod for pod in unit.pods if pod.terminating and pod.node is not None)
    return any(pod.replica >= most.get(pod.pool, 0) for pod in ending)


def _lacking(
    pools: Sequence[Pool], have: Collection[_Key], shape: Shape, taken: Collection[_Key]
) -> tuple[_Key, ...]:
    """Return the replicas that are missing for a shape, the pool with the least of its own first.

    They get the lowest numbers that are free: of none that is there, and none that is `taken`.
    """
    counts = Counter(name for name, _ in have)
    free = {pool.name: _free(pool.name, {*have, *taken}) for pool in pools}
    found: list[_Key] = []
    while short := [pool for pool in pools if counts[pool.name] < shape[pool.name]]:
        name = min(short, key=lambda pool: counts[pool.name] / shape[pool.name]).name
        found.append(next(free[name]))
        counts[name] += 1
    return tuple(found)


def _free(pool: str, have: Collection[_Key]) -> Iterator[_Key]:
    """Yield the replicas of a pool that are not there, the lowest number first."""
    return ((pool, number) for number in count() if (pool, number) not in have)


def _asked(
    unit: Unit, state: _State, held: Collection[str], *, growth: Growth
) -> tuple[frozenset[_Key], bool]:
    """Return the replicas that a unit is to get now, and whether those that wait find no room."""
    waiting = {_key(engine): engine for engine in unit.engines if not engine.begun}
    needed = frozenset(state.needed if growth is not Growth.NOTHING else ())
    more = state.more if growth is Growth.ALL else ()
    there = needed.union(more) & waiting.keys()
    no_room = any(pod.gated and pod.uid in held for key in there for pod in waiting[key].pods)
    if not state.covered:
        # Room that surplus leaves is asked for when it is free: who waits in vain makes the unit
        # give up the rest.
        return frozenset(() if state.leaving else state.needed), no_room
    if no_room:
        return needed or frozenset(more[:1]), True
    return (needed | there if there else needed.union(more)), False


def _together(
    deployment: Deployment, stay: Sequence[Engine], asked: Collection[_Key], shape: Shape
) -> int:
    """Return how many pods run in the end; without those that have failed and are not needed."""
    sound = [engine.pool for engine in stay if all(pod.counts for pod in engine.pods)]
    sound += [pool for pool, _ in asked]
    if not shape.covered_by(sound):
        sound = [*(engine.pool for engine in stay), *(pool for pool, _ in asked)]
    sizes = {pool.name: pool.size for pool in deployment.pools}
    return sum(sizes[pool] for pool in sound)


def _gives_enough(deployment: Deployment, state: _State, asked: Collection[_Key]) -> bool:
    """Return whether a unit gives up as many GPUs as it lacks, if it gives up what it has beyond.

    Where the least of the spec stays covered, nothing need be given up first.
    """
    if deployment.least.covered_by(engine.pool for engine in state.kept):
        return False
    kept = Shape.count(engine.pool for engine in state.kept)
    gives = takes = surplus = 0
    for pool in deployment.pools:
        surplus += max(0, kept[pool.name] - pool.count)
        gives += pool.gpus * max(0, kept[pool.name] - pool.count)
        takes += pool.gpus * sum(name == pool.name for name, _ in asked)
    return surplus > 0 and takes <= gives


def _key(engine: Engine) -> _Key:
    return engine.pool, engine.index
