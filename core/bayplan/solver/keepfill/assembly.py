"""Assembles the keep-and-fill program of a fleet: columns and rows, and slots if asked for.

What they mean stands in `fleet`.
"""

from collections import defaultdict
from dataclasses import replace
from typing import Final

import numpy as np

from bayplan.policy import Policy
from bayplan.solver.keepfill.fleet import Fleet, Group, Reserve, Residual
from bayplan.solver.keepfill.patterns import Patterns, enumerate_patterns, most_patterns
from bayplan.solver.keepfill.views import View
from bayplan.solver.problem import goals
from bayplan.solver.problem.instance import Counts, Instance, Mask
from bayplan.solver.problem.states import NodeTypes, States, count_states, node_types, numbered
from bayplan.solver.programs.linear import At
from bayplan.solver.programs.program import Terms

#: Most fill columns; beyond it the fleet is made of too many kinds of pods.
MAX_FILLS: Final = 400_000


def build(instance: Instance, policy: Policy, view: View, *, budgeted: bool) -> Fleet | None:
    """Return the program of `instance` seen as `view`; None when it would be too large.

    With `budgeted`, moves are limited, in all and by PodDisruptionBudgets; that needs a view in
    which all pods are anchored.
    """
    types = node_types(instance)
    states = count_states(
        types=types.of_node, room=view.room, anchored=view.anchored, requests=view.requests
    )
    if states is None:
        return None
    shapes, groups = _groups(instance, types)
    limit = most_patterns(policy.time_limit_s)
    patterns = _patterns(instance, types, states, shapes=shapes, groups=groups, limit=limit)
    if patterns is None:
        return None
    fleet = Fleet(
        instance=instance,
        view=view,
        types=types,
        states=states,
        groups=groups,
        shapes=shapes,
        patterns=patterns,
    )
    _add_keeps(fleet)
    _add_supply(fleet)
    _add_residuals(fleet)
    if fleet.fills > MAX_FILLS:
        return None
    _add_pods(fleet)
    _add_budgets(fleet, policy, budgeted=budgeted)
    return fleet


def _groups(instance: Instance, types: NodeTypes) -> tuple[Counts, tuple[Group, ...]]:
    """Return the shapes, and the classes of pods that can arrive, grouped."""
    shapes: dict[bytes, int] = {}
    found: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    rows: list[int] = []
    for i, each in enumerate(instance.classes):
        if (each.waiting or each.movable) and types.welcome[:, i].any():
            asks = instance.requests[i].tobytes()
            if asks not in shapes:
                shapes[asks] = len(rows)
                rows.append(i)
            found[shapes[asks], types.welcome[:, i].tobytes()].append(i)
    groups = tuple(
        Group(
            shape=shape,
            classes=tuple(classes),
            types=tuple(np.flatnonzero(types.welcome[:, classes[0]]).tolist()),
        )
        for (shape, _), classes in found.items()
    )
    return instance.requests[rows], groups


def _patterns(  # noqa: PLR0913 - a fleet, as far as it is counted
    instance: Instance,
    types: NodeTypes,
    states: States,
    *,
    shapes: Counts,
    groups: tuple[Group, ...],
    limit: int,
) -> tuple[Patterns, ...] | None:
    """Return the patterns of each node type."""
    pods = instance.run_totals + instance.wait_totals
    most = np.zeros((len(types.open), len(shapes)), dtype=np.int64)
    for group in groups:
        most[list(group.types), group.shape] += pods[list(group.classes)].sum()
    found: list[Patterns] = []
    for t, limits in enumerate(most):
        rooms = states.residual[states.types[states.owner] == t]
        each = enumerate_patterns(shapes, limits, rooms.max(axis=0), limit)
        if each is None:
            return None
        found.append(each)
    return tuple(found)


def _add_keeps(fleet: Fleet) -> None:
    """Add how many nodes of each class keep what; every node keeps something, if only nothing.

    The last keep of a class is all that runs, as it does now.
    """
    fleet.y = fleet.program.add_choices(fleet.states.sizes, fleet.states.owner)


def _add_supply(fleet: Fleet) -> None:
    """Add arrivals by group and node type, limited by what the fills have places for."""
    takers: dict[tuple[int, int], list[int]] = defaultdict(list)
    pods = fleet.instance.run_totals + fleet.instance.wait_totals
    for g, group in enumerate(fleet.groups):
        most = pods[list(group.classes)].sum()
        columns = fleet.program.add_columns(np.full(len(group.types), most, dtype=np.int64))
        for t, column in zip(group.types, columns.tolist(), strict=True):
            fleet.x[g, t] = column
            takers[t, group.shape].append(column)
    for key, columns_of in takers.items():
        terms = Terms.over(np.array(columns_of, dtype=np.int64))
        fleet.supply[key] = fleet.program.add_row(terms, upper=0)


def _add_residuals(fleet: Fleet) -> None:
    """Sort the residual rooms of all keeps into residual classes, and add the fills of each."""
    states = fleet.states
    fleet.residual_of = np.full(len(states.owner), -1, dtype=np.int64)
    type_of = states.types[states.owner]
    offers: dict[tuple[int, int], list[Terms]] = defaultdict(list)
    for t, patterns in enumerate(fleet.patterns):
        mine = np.flatnonzero(type_of == t)
        room_of, first = numbered(states.residual[mine])
        fits = patterns.fitting(states.residual[mine[first]])
        set_of, first_of_set = numbered(np.packbits(fits, axis=1).astype(np.int64))
        ids = np.array([_residual(fleet, t, fits[f], offers) for f in first_of_set], dtype=np.int64)
        fleet.residual_of[mine] = ids[set_of[room_of]]
    _offer(fleet, offers)
    _hand_out(fleet)


def _residual(
    fleet: Fleet, kind: int, fits: Mask, offers: dict[tuple[int, int], list[Terms]]
) -> int:
    """Return the index of a residual class, made with its fill columns on first use."""
    key = (kind, fits.tobytes())
    if key in fleet.known:
        return fleet.known[key]
    patterns = fleet.patterns[kind]
    chosen = np.flatnonzero(patterns.maximal(fits[None, :])[0])
    chosen = chosen[patterns.counts[chosen].any(axis=1)]
    nodes = int(fleet.states.sizes[fleet.states.types == kind].sum())
    columns = fleet.program.add_columns(np.full(len(chosen), nodes, dtype=np.int64))
    row = fleet.program.add_row(Terms.over(columns), upper=0) if len(chosen) else -1
    for shape in np.flatnonzero(patterns.counts[chosen].any(axis=0)).tolist():
        places = patterns.counts[chosen, shape]
        used = places > 0
        offers[kind, shape].append(Terms(columns=columns[used], weights=-places[used]))
    fleet.known[key] = len(fleet.residuals)
    fleet.residuals.append(
        Residual(type=kind, fits=fits, patterns=chosen, columns=columns, row=row)
    )
    return len(fleet.residuals) - 1


def _offer(fleet: Fleet, offers: dict[tuple[int, int], list[Terms]]) -> None:
    """Let new fills supply places."""
    for key, parts in offers.items():
        fleet.program.extend_row(fleet.supply[key], Terms.joined(parts))


def _hand_out(fleet: Fleet) -> None:
    """Let the nodes that keep what leaves this room be filled."""
    by_residual = np.argsort(fleet.residual_of, kind="stable")
    ends = np.searchsorted(fleet.residual_of[by_residual], np.arange(len(fleet.residuals) + 1))
    for r, each in enumerate(fleet.residuals):
        if each.row >= 0:
            mine = fleet.y[by_residual[ends[r] : ends[r + 1]]]
            fleet.program.extend_row(each.row, Terms.over(mine, -1))


def _add_pods(fleet: Fleet) -> None:
    """Add who survives, moves and is placed, and that all who arrive come from there."""
    instance, program, view = fleet.instance, fleet.program, fleet.view
    fleet.s = program.add_columns(view.most, view.fewest, begin=At.UPPER)
    fleet.p = program.add_columns(instance.wait_totals)
    movable = [instance.classes[members[0]].movable for members in view.members]
    running = [int(instance.run_totals[list(members)].sum()) for members in view.members]
    fleet.m = program.add_columns(
        np.array(running, dtype=np.int64) * np.array(movable, dtype=np.int64)
    )
    for q, members in enumerate(view.members):
        stays = np.flatnonzero(fleet.states.keeps[:, q])
        kept = Terms(columns=fleet.y[stays], weights=fleet.states.keeps[stays, q])
        survive = Terms.over(fleet.s[list(members)], -1)
        moves = Terms.over(fleet.m[[q]])
        program.add_row(Terms.joined([moves, kept, survive]), lower=0, upper=0)
    _add_arrivals(fleet)
    _add_gangs(fleet)
    _add_teams(fleet)


def _add_arrivals(fleet: Fleet) -> None:
    """Add that who moves or is placed arrives somewhere."""
    identity = {i: q for q, members in enumerate(fleet.view.members) for i in members}
    welcome: set[int] = set()
    for g, group in enumerate(fleet.groups):
        welcome |= set(group.classes)
        moving = sorted({identity[i] for i in group.classes if i in identity})
        come = [Terms.over(fleet.p[list(group.classes)]), Terms.over(fleet.m[moving])]
        there = np.array([fleet.x[g, t] for t in group.types], dtype=np.int64)
        fleet.program.add_row(Terms.joined([*come, Terms.over(there, -1)]), lower=0, upper=0)
    nowhere = [i for i in range(len(fleet.instance.classes)) if i not in welcome]
    stuck = [identity[i] for i in nowhere if i in identity]
    fleet.program.shut(np.concatenate([fleet.p[nowhere], fleet.m[stuck]]))


def _add_gangs(fleet: Fleet) -> None:
    """Add that waiting gangs are placed whole."""
    kinds = fleet.instance.kinds
    fleet.u = fleet.program.add_columns(np.array([len(k.gangs) for k in kinds], dtype=np.int64))
    for k, kind in enumerate(kinds):
        for i, need in kind.need:
            whole = [Terms.over(fleet.p[[i]]), Terms.over(fleet.u[[k]], -need)]
            fleet.program.add_row(Terms.joined(whole), lower=0, upper=0)


def _add_teams(fleet: Fleet) -> None:
    """Add that of running gangs that are alike a whole number survives."""
    teams = fleet.instance.teams
    gangs = np.array([len(team.gangs) for team in teams], dtype=np.int64)
    pinned = np.array([team.pinned for team in teams], dtype=np.bool_)
    fleet.a = fleet.program.add_columns(gangs, np.where(pinned, gangs, 0))
    for i in np.flatnonzero(fleet.instance.must_stay).tolist():
        needs = [(k, n) for k, team in enumerate(teams) for j, n in team.need if j == i]
        columns = fleet.a[[k for k, _ in needs]]
        weights = np.array([-n for _, n in needs], dtype=np.int64)
        alive = Terms(columns=columns, weights=weights)
        fleet.program.add_row(Terms.joined([Terms.over(fleet.s[[i]]), alive]), lower=0, upper=0)


def _add_budgets(fleet: Fleet, policy: Policy, *, budgeted: bool) -> None:
    running = int(fleet.instance.run_totals.sum())
    fleet.program.add_row(Terms.over(fleet.s), lower=running - policy.max_evictions)
    if not budgeted:
        return
    fleet.program.add_row(Terms.over(fleet.m), upper=policy.max_moves)
    identity = {i: q for q, members in enumerate(fleet.view.members) for i in members}
    for each in fleet.instance.allowances:
        seen = [i for i in each.classes if i in identity]
        gone = set(each.classes) - set(seen) - set(fleet.view.settled)
        left = each.most - int(fleet.instance.run_totals[[*gone]].sum())
        moves = Terms.over(fleet.m[sorted({identity[i] for i in seen})])
        lost = replace(
            Terms.over(fleet.s[seen], -1), constant=int(fleet.instance.run_totals[seen].sum())
        )
        fleet.program.add_row(Terms.joined([moves, lost]), upper=left)


def add_slots(fleet: Fleet) -> None:
    """Add reserves: nodes that leave whole GPUs free, for every number that makes a difference."""
    gpus, column = _free_gpus(fleet)
    spots = np.column_stack([fleet.residual_of, gpus, column])
    fleet.spot_of, first = numbered(spots)
    by_spot = np.argsort(fleet.spot_of, kind="stable")
    ends = np.searchsorted(fleet.spot_of[by_spot], np.arange(len(first) + 1))
    offers: dict[tuple[int, int], list[Terms]] = defaultdict(list)
    takes: dict[int, list[int]] = defaultdict(list)
    gives: dict[int, list[int]] = defaultdict(list)
    for spot, (r, free, k) in enumerate(spots[first].tolist()):
        added = _reserves(fleet, spot, r=r, free=free, k=k, offers=offers)
        if not added:
            continue
        columns = np.array([each.column for each in added], dtype=np.int64)
        mine = fleet.y[by_spot[ends[spot] : ends[spot + 1]]]
        fleet.program.add_row(Terms.joined([Terms.over(columns), Terms.over(mine, -1)]), upper=0)
        for each in added:
            if each.target != r:
                takes[r].append(each.column)
                gives[each.target].append(each.column)
        fleet.reserves += added
    _offer(fleet, offers)
    for sign, flows in ((1, takes), (-1, gives)):
        for r, flow in flows.items():
            if fleet.residuals[r].row >= 0:
                terms = Terms.over(np.array(flow, dtype=np.int64), sign)
                fleet.program.extend_row(fleet.residuals[r].row, terms)


def _free_gpus(fleet: Fleet) -> tuple[Counts, Counts]:
    """Return for each keep the free GPUs that count as slots, and their resource."""
    columns = goals.gpu_columns(fleet.instance)
    states = fleet.states
    is_open = fleet.types.open[states.types[states.owner]]
    if not len(columns):
        return np.zeros_like(states.owner), np.zeros_like(states.owner)
    free = np.where(is_open[:, None], np.maximum(states.residual[:, columns], 0), 0)
    return free.max(axis=1), columns[free.argmax(axis=1)]


def _reserves(  # noqa: PLR0913 - a spot and where to note what it adds
    fleet: Fleet,
    spot: int,
    *,
    r: int,
    free: int,
    k: int,
    offers: dict[tuple[int, int], list[Terms]],
) -> list[Reserve]:
    """Return the reserves of one spot: for each set of patterns, the most GPUs left free."""
    source = fleet.residuals[r]
    most: dict[int, int] = {}
    for gpus in range(1, free + 1):
        fits = source.fits & (fleet.patterns[source.type].uses[:, k] <= free - gpus)
        most[_residual(fleet, source.type, fits, offers)] = gpus
    nodes = int(fleet.states.sizes[fleet.states.types == source.type].sum())
    columns = fleet.program.add_columns(np.full(len(most), nodes, dtype=np.int64))
    return [
        Reserve(column=column, spot=spot, target=target, gpus=gpus)
        for column, (target, gpus) in zip(columns.tolist(), most.items(), strict=True)
    ]
