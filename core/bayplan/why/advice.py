"""Remedies in words: one sentence on what would make room, and on which objects."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from bayplan.cluster import units
from bayplan.cluster.keys import GangKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.plan import Reason
from bayplan.rules import filters
from bayplan.why.remedies import Freeing, Relaxation, Remedies


def in_words(remedies: Remedies, pods: Sequence[Pod], *, most: int) -> str:
    """Return what helps the pods as one sentence of at most `most` characters; empty if nothing."""
    said = ""
    for part in _parts(remedies, pods):
        longer = f"{said}, or {part}" if said else part
        said = longer if len(longer) <= most else said
    return said


def relaxed(relaxation: Relaxation) -> str:
    """Return e.g. "let the pod tolerate team=x:NoSchedule (n1 has room)"."""
    said = {
        Reason.TAINT_NOT_TOLERATED: f"let the pod tolerate {relaxation.about}",
        Reason.SELECTOR_MISMATCH: f"take {relaxation.about} out of its nodeSelector",
    }
    what = said.get(relaxation.what, "change its node affinity")
    return f"{what} ({relaxation.node} has room)"


def _parts(remedies: Remedies, pods: Sequence[Pod]) -> Iterator[str]:
    if remedies.uncordon:
        yield f"uncordon {_listed(remedies.uncordon)}"
    if remedies.recover:
        verb = "is" if len(remedies.recover) == 1 else "are"
        yield f"bring back {_listed(remedies.recover)}, which {verb} not ready"
    if remedies.free:
        yield "free " + _listed([_freed(each) for each in remedies.free])
    if remedies.evict and (told := _evicted(remedies.evict, pods)):
        yield told
    if remedies.add is not None:
        count, like = remedies.add.count, remedies.add.like
        yield f"add {count} node{'' if count == 1 else 's'} like {like.name} ({_size(like)})"


def _freed(freeing: Freeing) -> str:
    """Return e.g. "3 more GPUs on node-4 (5 of 8 are free)"."""
    told = _gpus_first(freeing.lacking)
    more = _listed([_more(name, n) for name, n in told])
    name, node = told[0][0], freeing.node
    if units.is_host_port(name):
        return f"{more} on {node.name}"
    have = units.text(name, max(0, filters.free_of(name, freeing.free)))
    size = node.allocatable[name]
    if units.is_share(name):
        most = filters.free_of(name, freeing.free)
        return f"{more} on {node.name} ({units.part_of_one(most)} is free)"
    in_all = units.text(name, size) if len(told) == 1 else units.words(name, size)
    verb = "is" if have.split()[0] == "1" else "are"
    return f"{more} on {node.name} ({have} of {in_all} {verb} free)"


def _more(name: str, n: int) -> str:
    """Return e.g. "3 more GPUs", "8 more CPU", "16 GiB more memory"."""
    if units.is_host_port(name):
        return name
    if units.is_share(name):
        return units.words(name, n)
    amount, _, what = units.exact_words(name, n).rpartition(" ")
    return f"{amount} more {what}"


def _size(node: Node) -> str:
    """Return how many GPUs a node has, or all it has where that is none."""
    all_of_it = [(name, n) for name, n in _gpus_first(node.allocatable) if name != "pods"]
    whole = [item for item in all_of_it if units.is_gpu(item[0])]
    return ", ".join(units.words(name, n) for name, n in whole or all_of_it)


def _gpus_first(amounts: Resources) -> list[tuple[str, int]]:
    return sorted(amounts.items, key=lambda item: (not filters.is_about_gpus(item[0]), item[0]))


def _evicted(pods: Sequence[Pod], waiting: Sequence[Pod]) -> str:
    """Return e.g. "evict default/a (priority 0)", where it helps; "" where nothing of it does.

    Whoever has an owner is made anew, and goes first among those who wait unless it is of a lower
    priority than they. An owner of both that is scaled down takes those away who wait.
    """
    tier = min(pod.priority for pod in waiting)
    come_back = [pod.owner for pod in pods if pod.owner is not None and pod.priority >= tier]
    if any(pod.owner in come_back for pod in waiting):
        return ""
    gangs: dict[GangKey, int] = defaultdict(int)
    names = []
    for pod in pods:
        if pod.gang is not None and pod.gang_min_count > 1:
            gangs[pod.gang] += 1
        else:
            names.append(str(pod.key))
    names += [f"gang {key} ({units.words('pods', n)})" for key, n in sorted(gangs.items())]
    tiers = sorted({pod.priority for pod in pods})
    said = f"priority {tiers[0]}" if len(tiers) == 1 else f"priorities {tiers[0]} to {tiers[-1]}"
    if not come_back:
        return f"evict {_listed(names)} ({said})"
    they, s = ("they", "s") if len(names) > 1 else ("it", "")
    return f"scale down the owner{s} of {_listed(names)} ({said}; evicted, {they} would come back)"


def _listed(parts: Sequence[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
