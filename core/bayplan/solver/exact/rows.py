"""Rules over domains as rows of the CP-SAT model.

Most rules bind a domain only if somebody comes there, which takes one boolean for each domain. Each
added variable is told what it is in an assignment, so that a hint stays complete.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from ortools.sat.python import cp_model

from bayplan.solver.exact.variables import Variables, summed
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.domains import Apart, Beside, Counts, DomainRule, Domains, Even


def add(model: cp_model.CpModel, v: Variables, rule: DomainRule) -> None:
    """Add the rows of one rule."""
    match rule:
        case Apart():
            _apart(model, v, rule)
        case Even():
            _even(model, v, rule)
        case Beside():
            _beside(model, v, rule)
        case _:
            raise TypeError(f"no rows for {rule!r}")


def gangs_inside(
    model: cp_model.CpModel, v: Variables, k: int, over: Domains, *, exactly: bool
) -> list[cp_model.IntVar]:
    """Return how many gangs of kind `k` are whole in each domain of `over`.

    With `exactly`, the domain holds no other pods of the kind.
    """
    kind = v.instance.kinds[k]
    counts = []
    for d, nodes in enumerate(over.members()):
        count = model.new_int_var(0, len(kind.gangs), f"gangs_{k}_{d}")
        v.further.append((count, partial(_whole, v, k, over, d)))
        counts.append(count)
        for i, need in kind.need:
            here = v.on(nodes, _only(v, i))
            model.add(here == need * count if exactly else here >= need * count)
    return counts


def _apart(model: cp_model.CpModel, v: Variables, rule: Apart) -> None:
    aloof = rule.aloof.astype(np.int64)
    for d, nodes in enumerate(rule.domains.members()):
        if not rule.live[d]:
            continue
        room, most = int(rule.room[d]), _most(v, nodes, rule.weight)
        used = v.on(nodes, rule.weight)
        strangers = _most(v, nodes, aloof)
        if strangers and most:
            some = model.new_bool_var("aloof")
            v.further.append((some, partial(_any, rule.domains, aloof, d)))
            model.add(v.on(nodes, aloof) <= strangers * some)
            model.add(used <= room * (1 - some))
        elif most > room:
            model.add(used <= room)


def _even(model: cp_model.CpModel, v: Variables, rule: Even) -> None:
    counted = rule.counted.astype(np.int64)
    members = rule.domains.members()
    there = [v.on(nodes, counted) + int(n) for nodes, n in zip(members, rule.base, strict=True)]
    least: cp_model.LinearExprT = 0
    if not rule.from_zero:
        top = int(rule.base.max(initial=0)) + int(counted @ v.instance.upper.sum(axis=1))
        lowest = model.new_int_var(0, top, "least")
        v.further.append((lowest, partial(_least, rule)))
        for count in there:
            model.add(lowest <= count)
        least = lowest
    for d, nodes in enumerate(members):
        some = _someone_comes(model, v, rule, nodes, d)
        if some is not None:
            model.add(there[d] <= least + rule.max_skew).only_enforce_if(some)


def _beside(model: cp_model.CpModel, v: Variables, rule: Beside) -> None:
    others = rule.others.astype(np.int64)
    own = (rule.meant & rule.carriers).astype(np.int64)
    begins = _begins(model, v, rule)
    begun = []
    for d, nodes in enumerate(rule.domains.members()):
        if rule.fixed[d]:
            continue
        some = _someone_comes(model, v, rule, nodes, d)
        if some is None:
            continue
        begun.append(some)
        company = v.on(nodes, others) + v.stayed(nodes, own)
        model.add(company >= some).only_enforce_if(~begins)
        model.add(v.on(nodes, own) >= some).only_enforce_if(begins)
    model.add(summed(begun) <= 1).only_enforce_if(begins)


def _begins(model: cp_model.CpModel, v: Variables, rule: Beside) -> cp_model.IntVar:
    """Return a boolean that is true if whoever comes has nobody to come to, and may begin."""
    if not rule.founding:
        return model.new_constant(0)
    others = rule.others.astype(np.int64)
    everywhere = range(len(v.instance.nodes))
    if not _most(v, everywhere, others):
        return model.new_constant(1)
    begins = model.new_bool_var("begins")
    v.further.append((begins, lambda assignment: int(not assignment.final[rule.others].any())))
    model.add(v.on(everywhere, others) == 0).only_enforce_if(begins)
    return begins


def _someone_comes(
    model: cp_model.CpModel, v: Variables, rule: Even | Beside, nodes: list[int], d: int
) -> cp_model.IntVar | None:
    """Return a boolean that is true if a carrier comes to the domain; None if none can."""
    carriers = rule.carriers.astype(np.int64)
    coming = np.where(v.instance.arrivals, v.instance.upper, 0)
    most = int(carriers @ coming[:, nodes].sum(axis=1))
    if not most:
        return None
    some = model.new_bool_var("comes")
    v.further.append((some, partial(_comes, v, rule.domains, carriers, d)))
    model.add(v.arrived(nodes, carriers) <= most * some)
    return some


def _most(v: Variables, nodes: Sequence[int], weights: Counts) -> int:
    return int(weights @ v.instance.upper[:, nodes].sum(axis=1))


def _only(v: Variables, index: int) -> Counts:
    weights = np.zeros(len(v.instance.classes), dtype=np.int64)
    weights[index] = 1
    return weights


def _any(over: Domains, weights: Counts, d: int, assignment: Assignment) -> int:
    return int(over.sums(weights @ assignment.final)[d] > 0)


def _comes(v: Variables, over: Domains, carriers: Counts, d: int, assignment: Assignment) -> int:
    came = assignment.final - np.minimum(assignment.final, v.instance.running)
    return int(over.sums(carriers @ came)[d] > 0)


def _least(rule: Even, assignment: Assignment) -> int:
    there = rule.base + rule.domains.sums(rule.counted.astype(np.int64) @ assignment.final)
    return int(there.min()) if len(there) else 0


def _whole(v: Variables, k: int, over: Domains, d: int, assignment: Assignment) -> int:
    need = v.instance.kinds[k].need
    return min(int(over.sums(assignment.final[i])[d]) // n for i, n in need)
