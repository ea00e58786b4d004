"""Check that nobody goes whose room only those get who do not outrank it.

A victim is spared in thought, with its whole gang, and whoever is placed by a later stage than the
one that would have been better so is left out. Where that breaks no rule, the plan disturbs
somebody for the sake of pods that it counts for less. Rooms are looked at first: hardly any victim
has room where it was, so that it hardly ever comes to the rules.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, compress, count, islice
from typing import Final, NamedTuple, cast

import numpy as np

from bayplan.aftermath import NOWHERE, Numbers
from bayplan.cluster import units
from bayplan.cluster.keys import GangKey
from bayplan.policy import Order
from bayplan.validate import gangs, rooms
from bayplan.validate.evidence import Evidence, Mask, gather
from bayplan.validate.findings import Code, Violation, wrong
from bayplan.validate.stages import in_order

#: How many victims, or gangs of them, are looked at by all rules; each costs half a validation.
_MOST: Final = 20

#: More than any pod asks for.
_PLENTY: Final = 2**62

#: What sparing somebody could break.
_RULES: Final = (rooms.room, rooms.devices, gangs.between_pods, gangs.whole_gangs)


class _Spared(NamedTuple):
    """Victims that can only be spared together.

    Attributes:
        where: Where they are in the snapshot.
        gains: The first stage that would be better if they were spared.
    """

    where: tuple[int, ...]
    gains: str


def spared(about: Evidence) -> Iterator[Violation]:
    """Check that each victim makes room for somebody who counts for more."""
    victims = tuple(_spared(about))
    if not victims:
        return
    names = in_order(about)
    turns = defaultdict(lambda: len(names), zip(names, count(), strict=False))
    came, gains = _came(about, turns), [turns[each.gains] for each in victims]
    have_room = _have_room(about, victims, came, np.array(gains))
    for each, turn in islice(compress(zip(victims, gains, strict=True), have_room.tolist()), _MOST):
        if _breaks_nothing(about, each, came > turn):
            pods = (about.snapshot.pods[i] for i in each.where)
            pod = max(pods, key=lambda pod: pod.priority)
            yield wrong(
                Code.OUTRANKED_VICTIM,
                f"{pod.key} of priority {pod.priority} could stay on {pod.node}: only pods that "
                "count for less get its room",
            )


def _spared(about: Evidence) -> Iterator[_Spared]:
    """Yield the victims that newcomers have to outrank.

    A pod may be moved for any newcomer, unless the order protects it.
    """
    pods = about.snapshot.pods
    evicted: dict[GangKey | int, list[int]] = defaultdict(list)
    for i in _there(about.after.evicted.pods):
        gang = pods[i].gang
        evicted[i if gang is None or gang not in about.gangs else gang].append(i)
    for together in evicted.values():
        highest = max([pods[i].priority for i in together])
        yield _Spared(tuple(together), f"keep {highest}")
    if about.policy.order is Order.PROTECT_FIRST:
        for i in _there(about.after.moved.pods):
            yield _Spared((i,), f"disruption from {pods[i].priority}")


def _there(pods: Numbers) -> list[int]:
    """Return where pods are, of those that are in the snapshot."""
    return cast("list[int]", pods[pods >= 0].tolist())


def _came(about: Evidence, turns: Mapping[str, int]) -> Numbers:
    """Return [bound] the turn of the stage that counts the pod; -1 of those that are not there."""
    bound, (values, numbers) = about.after.bound.pods, about.placing
    turn_of = np.array([*(turns[each.stage] for each in values), NOWHERE], dtype=np.int64)
    return np.asarray(turn_of[np.where(bound < 0, NOWHERE, numbers[bound])])


def _have_room(about: Evidence, victims: Sequence[_Spared], came: Numbers, gains: Numbers) -> Mask:
    """Return of victims whether they have room where they were, beside all that is placed earlier.

    Whoever was on a node that is not there has none. `gains` are the turns of their stages.
    """
    have = np.zeros(len(victims), dtype=np.bool_)
    for turn in np.unique(gains):
        mine = np.flatnonzero(gains == turn)
        left = _left(about, came > turn)
        have[mine] = _fit(about, [victims[v].where for v in mine.tolist()], left)
    return have


def _fit(about: Evidence, victims: Sequence[tuple[int, ...]], left: Numbers) -> Mask:
    """Return of victims whether all have room where they were, given what is left of each node."""
    nodes, fit = len(left), np.ones(len(victims), dtype=np.bool_)
    pods = np.array([*chain.from_iterable(victims)], dtype=np.int64)
    of = np.repeat(np.arange(len(victims)), [len(where) for where in victims])
    rows, kinds = about.after.before[pods], about.after.kind_of[pods]
    there = rows >= 0
    places, place_of = np.unique(of[there] * nodes + rows[there], return_inverse=True)
    back = np.zeros((len(places), left.shape[1]), dtype=np.int64)
    np.add.at(back, place_of, about.amounts.asked[kinds[there]])
    roomy = np.all((back <= left[places % nodes]) | (back == 0), axis=1)
    fit[of[~there]] = False
    fit[places[~roomy] // nodes] = False
    return fit


def _left(about: Evidence, late: Mask) -> Numbers:
    """Return [node, resource] what is left for those who ask for it, without who comes late.

    Parts of GPUs are no sums: here there are plenty of them.
    """
    amounts, bound = about.amounts, about.after.bound
    left = amounts.there[about.node_kind] - amounts.used[about.state]
    left += np.array([units.implied(name) for name in amounts.names], dtype=np.int64)
    gone = late & (bound.rows >= 0)
    np.add.at(left, bound.rows[gone], amounts.asked[about.after.kind_of[bound.pods[gone]]])
    left[:, [units.is_part(name) for name in amounts.names]] = _PLENTY
    return left


def _breaks_nothing(about: Evidence, spared: _Spared, late: Mask) -> bool:
    """Return whether the plan may be carried out without these victims and what comes too late."""
    stay = {about.snapshot.pods[i].key for i in spared.where}
    rest = replace(
        about.plan,
        binds=tuple(compress(about.plan.binds, (~late).tolist())),
        moves=tuple(move for move in about.plan.moves if move.pod not in stay),
        evictions=tuple(evict for evict in about.plan.evictions if evict.pod not in stay),
    )
    other = gather(about.snapshot, about.policy, rest)
    return not any(True for rule in _RULES for _ in rule(other))
