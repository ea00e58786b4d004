"""Brute force over every placement of a tiny snapshot: what the best plan is worth.

Written from the order of objectives alone, for at most about three nodes and six pods; the tests
compare the planner with it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import product

from bayplan import filters
from bayplan.plan import EVICTION_COST
from bayplan.policy import Policy
from bayplan.snapshot import BudgetKey, Disruption, GangKey, Node, NodeName, Pod, Snapshot
from tests.builders import GPU

Places = tuple[NodeName | None, ...]
Score = dict[str, int]


def best(snapshot: Snapshot, policy: Policy, names: tuple[str, ...]) -> tuple[int, ...]:
    """Return the lexicographically best values of the stages `names`."""
    scores = (score(snapshot, places) for places in placements(snapshot, policy))
    return max(tuple(_signed(name, each.get(name, 0)) for name in names) for each in scores)


def reached(names: tuple[str, ...], values: tuple[int, ...]) -> tuple[int, ...]:
    """Return stage values in the form that `best` compares."""
    return tuple(_signed(name, value) for name, value in zip(names, values, strict=True))


def placements(snapshot: Snapshot, policy: Policy) -> Iterator[Places]:
    """Yield where each pod could be after a plan that breaks no rule."""
    choices = [_choices(pod, snapshot.nodes) for pod in snapshot.pods]
    for places in product(*choices):
        if _allowed(snapshot, policy, places):
            yield places


def score(snapshot: Snapshot, places: Places) -> Score:
    """Return the value of every stage, by name."""
    counted: Counter[str] = Counter()
    tiers, gentle = _tiers(snapshot), _gentle(snapshot)
    for pod, place in zip(snapshot.pods, places, strict=True):
        if pod.waiting and place is not None:
            suffix = " without preemption" if pod.uid in gentle else ""
            counted[f"place {tiers[pod.uid]}{suffix}"] += 1
        elif not pod.waiting and place is not None and pod.disruption is not Disruption.FIXED:
            counted[f"keep {pod.priority}"] += 1
    counted.update(_suffered(snapshot, places))
    for node in snapshot.nodes:
        free = node.allocatable[GPU] - _used(snapshot, places, node.name)[GPU]
        if node.ready and node.schedulable and free > 0:
            counted.update({f"free {size}-GPU slots": free // size for size in (8, 4, 2, 1)})
    return dict(counted)


def _signed(name: str, value: int) -> int:
    return -value if name.startswith("disruption") else value


def _suffered(snapshot: Snapshot, places: Places) -> Score:
    costs: Counter[str] = Counter()
    for pod, place in zip(snapshot.pods, places, strict=True):
        if pod.waiting or place == pod.node:
            continue
        cost = pod.move_cost if place is not None else pod.move_cost + EVICTION_COST
        floors = {each.priority for each in snapshot.pods if each.priority <= pod.priority}
        names = ["disruption", *(f"disruption from {floor}" for floor in floors)]
        costs.update(dict.fromkeys(names, cost))
    return dict(costs)


def _choices(pod: Pod, nodes: tuple[Node, ...]) -> list[NodeName | None]:
    accepting: list[NodeName | None] = [
        node.name for node in nodes if filters.static_rejection(pod, node) is None
    ]
    if pod.waiting:
        return [None, *accepting]
    match pod.disruption:
        case Disruption.FIXED:
            return [pod.node]
        case Disruption.EVICTABLE:
            return [None, pod.node]
        case Disruption.MOVABLE:
            return [None, *dict.fromkeys([pod.node, *accepting])]


def _allowed(snapshot: Snapshot, policy: Policy, places: Places) -> bool:
    moves, evictions = _disturbed(snapshot, places)
    return (
        moves <= policy.max_moves
        and evictions <= policy.max_evictions
        and all(_fits(snapshot, places, node) for node in snapshot.nodes)
        and _gangs_whole(snapshot, places)
        and _budgets_kept(snapshot, places)
    )


def _budgets_kept(snapshot: Snapshot, places: Places) -> bool:
    own: Counter[BudgetKey | None] = Counter(
        pod.budget
        for pod, place in zip(snapshot.pods, places, strict=True)
        if not pod.waiting and place != pod.node
    )
    return all(own[each.key] <= each.allowed for each in snapshot.budgets)


def _disturbed(snapshot: Snapshot, places: Places) -> tuple[int, int]:
    pairs = [
        (p.node, place) for p, place in zip(snapshot.pods, places, strict=True) if not p.waiting
    ]
    moves = sum(place is not None and place != node for node, place in pairs)
    return moves, sum(place is None for _, place in pairs)


def _used(snapshot: Snapshot, places: Places, name: NodeName) -> Counter[str]:
    used: Counter[str] = Counter()
    for pod, place in zip(snapshot.pods, places, strict=True):
        used.update(dict(pod.requests.items) if place == name else {})
    return used


def _fits(snapshot: Snapshot, places: Places, node: Node) -> bool:
    used = _used(snapshot, places, node.name)
    return all(n <= node.allocatable[resource] for resource, n in used.items())


def _gangs(snapshot: Snapshot) -> dict[GangKey, list[int]]:
    gangs: dict[GangKey, list[int]] = defaultdict(list)
    for i, pod in enumerate(snapshot.pods):
        if pod.gang is not None and pod.gang_min_count > 1:
            gangs[pod.gang].append(i)
    return gangs


def _gangs_whole(snapshot: Snapshot, places: Places) -> bool:
    for members in _gangs(snapshot).values():
        waiting = [places[i] is not None for i in members if snapshot.pods[i].waiting]
        running = [places[i] is not None for i in members if not snapshot.pods[i].waiting]
        min_count = max(snapshot.pods[i].gang_min_count for i in members)
        whole = len(set(running)) <= 1 and (len(running) >= min_count or len(set(waiting)) <= 1)
        enough = not any(waiting) or sum(waiting) + sum(running) >= min_count
        if not (whole and enough):
            return False
    return True


def _tiers(snapshot: Snapshot) -> dict[str, int]:
    tiers = {pod.uid: pod.priority for pod in snapshot.pods}
    for members in _gangs(snapshot).values():
        waiting = [snapshot.pods[i] for i in members if snapshot.pods[i].waiting]
        for pod in waiting:
            tiers[pod.uid] = min(each.priority for each in waiting)
    return tiers


def _gentle(snapshot: Snapshot) -> set[str]:
    gentle = {pod.uid for pod in snapshot.pods if pod.waiting and not pod.preempts}
    for members in _gangs(snapshot).values():
        uids = {snapshot.pods[i].uid for i in members if snapshot.pods[i].waiting}
        gentle |= uids if uids & gentle else set()
    return gentle
