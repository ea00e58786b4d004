"""Brute force over every placement of a tiny snapshot: what the best plan is worth.

Written from the order of objectives alone, for at most about three nodes and six pods; the tests
compare the planner with it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from bayplan.cluster.budgets import Budget
from bayplan.cluster.constraints import Peers, PodSelector, PodTerm, Spread
from bayplan.cluster.keys import BudgetKey, GangKey, NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import EVICTION_COST
from bayplan.policy import Policy
from bayplan.rules import filters
from bayplan.validate import Code
from tests.builders import GPU

Place = NodeName | None
Places = tuple[Place, ...]
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
    choices = [(pod, _choices(pod, snapshot.nodes)) for pod in snapshot.pods]
    free: dict[Place, int] = {node.name: node.allocatable[GPU] for node in snapshot.nodes}
    for places in _candidates(choices, free, policy.max_moves, policy.max_evictions):
        if _allowed(snapshot, policy, places):
            yield places


def broken(snapshot: Snapshot, policy: Policy, places: Places) -> set[Code]:
    """Return which rules no plan may break that leads to these places.

    What the planner asks of itself beyond them is not looked for: that nobody comes where a port
    was taken twice or an anti-affinity broken before, and that a scattered gang is joined where
    most of it runs.
    """
    moves, evictions = _disturbed(snapshot, places)
    nodes = {node.name: node for node in snapshot.nodes}
    pods = list(zip(snapshot.pods, places, strict=True))
    left = [(pod, place) for pod, place in pods if not pod.waiting and place != pod.node]
    came = [i for i in range(len(places)) if _arrives(snapshot, places, i)]
    over = moves > policy.max_moves or evictions > policy.max_evictions
    wrong = {
        Code.OVER_BUDGET: over or not all(_admits(each, left) for each in snapshot.budgets),
        Code.NOT_DISRUPTABLE: any(
            pod.terminating
            or pod.disruption is Disruption.FIXED
            or (place is not None and pod.disruption is Disruption.EVICTABLE)
            for pod, place in left
        ),
        Code.NODE_REFUSES: any(
            filters.static_rejection(snapshot.pods[i], nodes[place]) is not None
            for i in came
            if (place := places[i]) is not None
        ),
        Code.OVER_COMMITTED: not all(
            _fits(snapshot, places, node, before=places) for node in snapshot.nodes
        ),
        Code.GANG_SPLIT: not _gangs_whole(snapshot, places),
        Code.GANG_SCATTERED: any(
            _is_torn(snapshot, places, members) for members in _gangs(snapshot).values()
        ),
        Code.PEERS_BROKEN: not all(_gets_along(snapshot, places, i, before=places) for i in came),
    }
    return {code for code, is_so in wrong.items() if is_so}


def _admits(budget: Budget, left: Sequence[tuple[Pod, Place]]) -> bool:
    """Return whether a budget admits that these pods lose their nodes; all of them are ready."""
    here = (budget.key.namespace,)
    own = PodSelector(namespaces=here, labels=budget.labels)
    return sum(_means(own, pod) for pod, _ in left) <= budget.allowed


def _is_torn(snapshot: Snapshot, places: Places, members: Sequence[int]) -> bool:
    """Return whether pods of a gang come to where the rest of it is not, or not all to one."""
    topology = snapshot.pods[members[0]].gang_topology
    key = topology.required if topology else ""
    came = [i for i in members if _arrives(snapshot, places, i)]
    values = {_label(snapshot, places[i], key) for i in came}
    placed = [snapshot.pods[i] for i in members if places[i] is not None]
    ran = {_label(snapshot, pod.node, key) for pod in placed if pod.node is not None}
    stays = len(came) < len(placed)
    return bool(key and came) and (
        len(values) > 1 or None in values or (stays and not values <= ran)
    )


def score(snapshot: Snapshot, places: Places) -> Score:
    """Return the value of every stage, by name."""
    counted: Counter[str] = Counter()
    tiers, gentle, missing = _tiers(snapshot), _gentle(snapshot), needed(snapshot)
    for pod, place in zip(snapshot.pods, places, strict=True):
        if pod.waiting and place is not None:
            suffix = " below minReplicas" if pod.gang in missing else ""
            suffix += " without preemption" if pod.uid in gentle else ""
            counted[f"place {tiers[pod.uid]}{suffix}"] += 1
        elif not pod.waiting and place is not None and pod.disruption is not Disruption.FIXED:
            counted[f"keep {pod.priority}"] += 1
    counted.update(_suffered(snapshot, places))
    counted += _preferences(snapshot, places)
    for node in snapshot.nodes:
        free = node.allocatable[GPU] - _used(snapshot, places, node.name)[GPU]
        free -= _held(snapshot, places, node.name, node.allocatable[GPU])
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
    before: Places = tuple(pod.node for pod in snapshot.pods)
    return (
        moves <= policy.max_moves
        and evictions <= policy.max_evictions
        and all(_fits(snapshot, places, node, before=before) for node in snapshot.nodes)
        and _gangs_whole(snapshot, places)
        and _gangs_at_home(snapshot, places)
        and all(_gets_along(snapshot, places, i, before=before) for i in range(len(places)))
        and _budgets_kept(snapshot, places)
    )


def _budgets_kept(snapshot: Snapshot, places: Places) -> bool:
    own: Counter[BudgetKey | None] = Counter(
        pod.budget
        for pod, place in zip(snapshot.pods, places, strict=True)
        if not pod.waiting and place != pod.node
    )
    return all(own[each.key] <= each.allowed for each in snapshot.budgets)


def _candidates(
    choices: Sequence[tuple[Pod, Sequence[Place]]],
    free: Mapping[Place, int],
    moves: int,
    evictions: int,
) -> Iterator[Places]:
    """Yield all choices but those for which whole GPUs, moves or evictions do not suffice.

    Those are most of them, and `_allowed` looks at each for long. With a pod too much for one of
    the three, all that follows has one too much as well.
    """
    if not choices:
        yield ()
        return
    (pod, places), others = choices[0], choices[1:]
    for place in places:
        left = dict(free)
        if place in left:  # else it stays where nobody knows of a node, or nowhere
            left[place] -= pod.requests[GPU]
        leaves = not pod.waiting and place != pod.node
        moves_left = moves - (leaves and place is not None)
        evictions_left = evictions - (leaves and place is None)
        if min(left.get(place, 0), moves_left, evictions_left) >= 0:
            for rest in _candidates(others, left, moves_left, evictions_left):
                yield (place, *rest)


def _disturbed(snapshot: Snapshot, places: Places) -> tuple[int, int]:
    pairs = [
        (p.node, place) for p, place in zip(snapshot.pods, places, strict=True) if not p.waiting
    ]
    moves = sum(place is not None and place != node for node, place in pairs)
    return moves, sum(place is None for _, place in pairs)


def _used(snapshot: Snapshot, places: Places, name: NodeName) -> Counter[str]:
    used: Counter[str] = Counter()
    for pod, place in zip(snapshot.pods, places, strict=True):
        if place == name:
            used.update(dict(pod.requests.items))
    return used


def _fits(snapshot: Snapshot, places: Places, node: Node, *, before: Places) -> bool:
    used = _used(snapshot, places, node.name)
    came: set[str] = set()
    for i, (pod, place) in enumerate(zip(snapshot.pods, places, strict=True)):
        came |= set(pod.requests) if place == node.name and _arrives(snapshot, places, i) else set()
    # Whoever shares a port already may go on, but nobody joins.
    ports = any(resource.startswith("host port") for resource in used)
    had = _used(snapshot, before, node.name) if ports else Counter[str]()
    room = node.allocatable[GPU]
    return used[GPU] + _held(snapshot, places, node.name, room) <= room and all(
        max(n, had[resource]) <= 1 or resource not in came
        if resource.startswith("host port")
        else n <= node.allocatable[resource] or resource.startswith("gpu ")
        for resource, n in used.items()
    )


def _held(snapshot: Snapshot, places: Places, name: NodeName, gpus: int) -> int:
    """Return the fewest GPUs that the shares on a node need; one more than it has if none do.

    Every way of giving each a GPU is tried; who stays keeps the one it has.
    """
    sizes, choices = [], []
    alone = 0
    for pod, place in zip(snapshot.pods, places, strict=True):
        if place != name or not (milli := pod.requests.share_milli):
            continue
        stays = pod.node == name
        if stays and pod.requests.device is None:
            alone += 1
            continue
        sizes.append(milli)
        choices.append([pod.requests.device] if stays else list(range(gpus)))
    best = gpus + 1
    for devices in product(*choices):
        loads: Counter[int | None] = Counter()
        for device, milli in zip(devices, sizes, strict=True):
            loads[device] += milli
        if all(load <= 1000 for load in loads.values()):
            best = min(best, len(loads) + alone)
    return best


def _gangs(snapshot: Snapshot) -> dict[GangKey, list[int]]:
    gangs: dict[GangKey, list[int]] = defaultdict(list)
    for i, pod in enumerate(snapshot.pods):
        if pod.gang is not None and pod.gang_min_count > 1 and not pod.terminating:
            gangs[pod.gang].append(i)
    return gangs


def needed(snapshot: Snapshot) -> set[GangKey]:
    """Return the waiting units that are missing, one after the other until none is.

    Units are called NAME-NUMBER.
    """
    there = {node.name for node in snapshot.nodes}
    seen = [p for p in snapshot.pods if not p.terminating and (p.waiting or p.node in there)]
    found: set[GangKey] = set()
    for owner in {pod.owner for pod in seen if pod.gang and pod.min_units}:
        gangs = defaultdict(list)
        for pod in seen:
            if pod.owner == owner and pod.gang:
                gangs[pod.gang].append(pod)
        missing = max(pod.min_units for pods in gangs.values() for pod in pods)
        waiting = []
        for gang, pods in gangs.items():
            size = max(pod.gang_min_count for pod in pods)
            on_nodes = sum(pod.node is not None for pod in pods)
            missing -= on_nodes >= size
            if on_nodes < size <= len(pods):
                waiting.append((on_nodes == 0, int(gang.name.split("-")[1]), gang))
        while waiting and missing > 0:
            first = min(waiting)
            waiting.remove(first)
            found.add(first[2])
            missing -= 1
    return found


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


def _label(snapshot: Snapshot, name: NodeName | None, key: str) -> str | None:
    return next((dict(n.labels).get(key) for n in snapshot.nodes if n.name == name), None)


def _means(selector: PodSelector, pod: Pod) -> bool:
    labels = dict(pod.labels)
    held = {
        "In": lambda r: labels.get(r.key) in r.values,
        "NotIn": lambda r: labels.get(r.key) not in r.values,
        "Exists": lambda r: r.key in labels,
        "DoesNotExist": lambda r: r.key not in labels,
    }
    here = not selector.namespaces or pod.key.namespace in selector.namespaces
    return here and not selector.nobody and all(held[r.operator](r) for r in selector.labels)


def _arrives(snapshot: Snapshot, places: Places, i: int) -> bool:
    return places[i] is not None and places[i] != snapshot.pods[i].node


def _gets_along(snapshot: Snapshot, places: Places, i: int, before: Places) -> bool:
    """Return whether pod `i`, if it arrives, may be where it is beside all others."""
    if not _arrives(snapshot, places, i):
        return True
    pod = snapshot.pods[i]
    asked = pod.constraints.peers or Peers()
    return (
        all(_kept_apart(snapshot, places, i, term, before) for term in _all_repels(snapshot))
        and all(_even(snapshot, places, i, spread) for spread in asked.spreads)
        and all(_company(snapshot, places, i, term) for term in asked.attracts)
    )


def _all_repels(snapshot: Snapshot) -> set[PodTerm]:
    return {t for p in snapshot.pods if p.constraints.peers for t in p.constraints.peers.repels}


def _repels(pod: Pod, term: PodTerm) -> bool:
    return pod.constraints.peers is not None and term in pod.constraints.peers.repels


def _kept_apart(snapshot: Snapshot, places: Places, i: int, term: PodTerm, before: Places) -> bool:
    """Return whether no two pods share the domain of pod `i` that the term keeps apart.

    Nobody concerned comes to a domain in which it is broken already.
    """
    pod, value = snapshot.pods[i], _label(snapshot, places[i], term.key)
    if value is None or not (_repels(pod, term) or _means(term.pods, pod)):
        return True
    return not any(
        _repels(one, term) and _means(term.pods, other)
        for where in (before, places)
        for one, at in zip(snapshot.pods, where, strict=True)
        for other, there in zip(snapshot.pods, where, strict=True)
        if one.uid != other.uid
        and _label(snapshot, at, term.key) == _label(snapshot, there, term.key) == value
    )


def _even(snapshot: Snapshot, places: Places, i: int, spread: Spread) -> bool:
    pod = snapshot.pods[i]
    keys = {each.key for each in (pod.constraints.peers or Peers()).spreads}
    # Nodes that the pod does not select count for nothing, nor do the pods there.
    eligible = {
        node.name: dict(node.labels)[spread.key]
        for node in snapshot.nodes
        if keys <= set(dict(node.labels)) and filters.wants(pod.constraints, node)
    }
    counts = dict.fromkeys(eligible.values(), 0)
    for other, place in zip(snapshot.pods, places, strict=True):
        if place in eligible and _means(spread.pods, other) and not other.terminating:
            counts[eligible[place]] += 1
    here = _label(snapshot, places[i], spread.key)
    return here in counts and counts[here] - min(counts.values()) <= spread.max_skew


def _company(snapshot: Snapshot, places: Places, i: int, term: PodTerm) -> bool:
    """Return whether somebody is there first, or the pods that ask for each other begin."""
    here = _label(snapshot, places[i], term.key)
    asks = [
        bool(p.constraints.peers and term in p.constraints.peers.attracts) for p in snapshot.pods
    ]
    meant = [_means(term.pods, p) for p in snapshot.pods]
    where = [_label(snapshot, place, term.key) for place in places]
    came = [_arrives(snapshot, places, j) for j in range(len(places))]
    everyone = range(len(places))
    if any(
        meant[j] and (snapshot.pods[j].node is not None or (not asks[j] and came[j]))
        for j in everyone
    ):
        return here is not None and any(
            meant[j]
            and where[j] == here
            and not (came[j] and asks[j])
            and not snapshot.pods[j].terminating
            for j in everyone
        )
    begun = {where[j] for j in everyone if came[j] and asks[j]}
    return here is not None and len(begun) == 1 and any(came[j] and meant[j] for j in everyone)


def _gangs_at_home(snapshot: Snapshot, places: Places) -> bool:
    """Return whether gangs that must be in one domain are, or join most of what runs of them."""
    for members in _gangs(snapshot).values():
        topology = snapshot.pods[members[0]].gang_topology
        if topology is None or not topology.required:
            continue
        homes = [_label(snapshot, snapshot.pods[i].node, topology.required) for i in members]
        ran: Counter[str | None] = Counter(home for home in homes if home is not None)
        came = {
            _label(snapshot, places[i], topology.required)
            for i in members
            if _arrives(snapshot, places, i)
        }
        runs = any(not snapshot.pods[i].waiting for i in members)
        if not came:
            continue
        if len(came) > 1 or None in came or (runs and not came <= set(ran)):
            return False
        if runs and came != {min(ran, key=lambda home: (-ran[home], str(home)))}:
            return False
    return True


def _preferences(snapshot: Snapshot, places: Places) -> Counter[str]:
    """Return the gangs that are inside a domain they prefer, and the preferences fulfilled."""
    counted: Counter[str] = Counter()
    for members in _gangs(snapshot).values():
        topology = snapshot.pods[members[0]].gang_topology
        new = all(snapshot.pods[i].waiting for i in members)
        for rank, key in enumerate(topology.preferred if topology and new else ()):
            values = {_label(snapshot, places[i], key) for i in members}
            whole = all(places[i] is not None for i in members)
            counted[f"topology {rank + 1}"] += whole and len(values) == 1 and None not in values
    nodes = {node.name: node for node in snapshot.nodes}
    for i, (pod, place) in enumerate(zip(snapshot.pods, places, strict=True)):
        if place is not None and _arrives(snapshot, places, i):
            counted["preference"] += filters.preference(pod.constraints.prefers, nodes[place])
    return counted


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
