"""Whether a node takes a pod: small checks, in order, that return a reason or nothing.

The planner asks what no plan can change (`static_rejection`), the webhook asks about one pod and
one node as they are now (`reject`). Why no node at all takes a pod is told by `why.reasons`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bayplan.api import names
from bayplan.cluster import units
from bayplan.cluster.columns import Column, alike
from bayplan.cluster.constraints import Constraints, NodeTerm, Preference, Requirement, Taint
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.shares import left_in
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Reason, Rejection

#: The taint that stands for a cordon; a pod that tolerates it may use a cordoned node.
CORDON: Final = Taint(key="node.kubernetes.io/unschedulable")

#: Taint effects that keep a pod away; PreferNoSchedule is only a wish.
_HARD_EFFECTS: Final = frozenset({"NoSchedule", "NoExecute"})

#: What Kubernetes reads as an integer in Gt and Lt, if it has 64 bits.
_INTEGER: Final = re.compile(r"[+-]?0*[0-9]{1,19}")
_INT64: Final = range(-(2**63), 2**63)


def reject(pod: Pod, node: Node, free: Resources) -> Rejection | None:
    """Return why `node` with this `free` room does not take the pod now; None if it does."""
    return static_rejection(pod, node) or room_rejection(pod.requests, free)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What of a node some pods look at, room aside: nodes that look the same are one to them.

    Attributes:
        labels: Keys of the labels that are asked for.
        names: The nodes that are asked for, or left out, by their names.
    """

    labels: frozenset[str]
    names: frozenset[str]

    @classmethod
    def of(cls, asked: Iterable[Constraints]) -> "Looks":
        """Return what pods with these constraints look at."""
        keys: set[str] = set()
        names: set[str] = set()
        for constraints in asked:
            keys |= {key for key, _ in constraints.node_selector}
            for terms in (constraints.affinity, *constraints.volumes):
                keys |= {r.key for term in terms for r in term.labels}
                # Of fields the API server admits In and NotIn only.
                names |= {name for term in terms for r in term.fields for name in r.values}
            names |= {*constraints.refused_at}
        return cls(labels=frozenset(keys), names=frozenset(names))

    def at(self, node: Node) -> tuple[object, ...]:
        """Return how the node looks."""
        labels = self.labels and tuple([pair for pair in node.labels if pair[0] in self.labels])
        name = node.name if node.name in self.names else ""
        return (node.ready, node.schedulable, node.taints, labels, name)

    def over(self, snapshot: Snapshot) -> Column[Node]:
        """Return the nodes by look and size, with the first of each number."""
        if not self.labels and not self.names:
            return snapshot.node_kinds
        looks = map(self.at, snapshot.nodes)
        return alike(snapshot.nodes, zip(snapshot.node_kinds.numbers, looks, strict=True))


def static_rejection(pod: Pod, node: Node) -> Rejection | None:
    """Return why `node` would refuse the pod even if it were empty; None if it would not."""
    return eligibility(pod.constraints, node) or size_rejection(pod.requests, node)


def eligibility(constraints: Constraints, node: Node) -> Rejection | None:
    """Return why `node` refuses a pod with these constraints, whatever room it needs."""
    for check in CHECKS:
        rejection = check(constraints, node)
        if rejection is not None:
            return rejection
    return None


def size_rejection(requests: Resources, node: Node) -> Rejection | None:
    """Return why `requests` are more than all of `node`; None when it is large enough."""
    lacking = _lacking(requests, node.allocatable)
    if lacking is None:
        return None
    resource, need, have = lacking
    in_all = f"{units.texts(resource, have, need)[0]} in all"
    if units.is_share(resource):
        in_all = "no GPU to share"
    return Rejection(
        reason=Reason.TOO_SMALL,
        message=f"needs {units.exact_words(resource, need)}; {node.name} has {in_all}",
    )


def broken(constraints: Constraints, node: Node) -> Rejection | None:
    """Return why a node that was told to be broken refuses the pod; None if it was not.

    No taint of Kubernetes says so: kube-scheduler does not know.
    """
    marks = tuple(taint for taint in node.taints if taint.key == names.LABEL_UNHEALTHY)
    return _tainted(constraints, replace(node, taints=marks)) if marks else None


def room_rejection(requests: Resources, free: Resources) -> Rejection | None:
    """Return why `requests` are more than the `free` room; None when they fit."""
    lacking = _lacking(requests, free)
    if lacking is None:
        return None
    resource, need, have = lacking
    if units.is_host_port(resource):
        message = f"{resource} is taken on the node"
        return Rejection(reason=Reason.HOST_PORT_TAKEN, message=message, resolvable=True)
    left = f"{units.texts(resource, max(0, have), need)[0]} free on the node"
    if units.is_share(resource):
        left = f"{units.part_of_one(have)} is free on the node"
    return Rejection(
        reason=Reason.INSUFFICIENT_ROOM,
        message=f"needs {units.exact_words(resource, need)}; {left}",
        resolvable=True,
    )


def _lacking(requests: Resources, room: Resources) -> tuple[str, int, int] | None:
    """Return the most telling resource that is short, with what is needed and what is there.

    GPUs come first, because they are what people wait for. Of a share it is said what is left of
    the GPU that has the most.
    """
    short = requests.shortfall(room)
    if not short.items:
        return None
    name = min(short, key=lambda name: (not is_about_gpus(name), name))
    return name, max(1, requests[name]), free_of(name, room)


def is_about_gpus(resource: str) -> bool:
    """Return whether `resource` is whole GPUs or a share of one."""
    return units.is_gpu(resource) or units.is_share(resource)


def free_of(resource: str, room: Resources) -> int:
    """Return what of `resource` can be had in `room`: whole GPUs that nobody shares.

    Of a share that is the largest that could, in thousandths of a GPU.
    """
    if units.is_share(resource):
        return left_in(room.items).widest
    if resource == units.SHARED_GPU:
        return left_in(room.items).whole
    return room[resource]


def _not_ready(_: Constraints, node: Node) -> Rejection | None:
    if node.ready:
        return None
    return Rejection(reason=Reason.NODE_NOT_READY, message=f"{node.name} is not ready")


def _cordoned(constraints: Constraints, node: Node) -> Rejection | None:
    if node.schedulable or tolerates(constraints, CORDON):
        return None
    return Rejection(reason=Reason.NODE_CORDONED, message=f"{node.name} is cordoned")


def _tainted(constraints: Constraints, node: Node) -> Rejection | None:
    for taint in node.taints:
        if taint.effect in _HARD_EFFECTS and not tolerates(constraints, taint):
            mark = about(taint)
            return Rejection(
                reason=Reason.TAINT_NOT_TOLERATED,
                message=f"does not tolerate the taint {mark} of {node.name}",
                about=mark,
            )
    return None


def about(taint: Taint) -> str:
    """Return the taint as `kubectl taint` takes it: "team=research:NoSchedule"."""
    value = f"={taint.value}" if taint.value else ""
    return f"{taint.key}{value}:{taint.effect}"


def _selected(constraints: Constraints, node: Node) -> Rejection | None:
    if not constraints.node_selector:
        return None
    labels = dict(node.labels)
    for key, value in constraints.node_selector:
        if labels.get(key) != value:
            has = f"{key}={labels[key]}" if key in labels else "no such label"
            return Rejection(
                reason=Reason.SELECTOR_MISMATCH,
                message=f"selects nodes with {key}={value}; {node.name} has {has}",
                about=f"{key}={value}",
            )
    return None


def _affine(constraints: Constraints, node: Node) -> Rejection | None:
    if not constraints.affinity:
        return None
    labels = dict(node.labels)
    if any(term_matches(term, labels, node) for term in constraints.affinity):
        return None
    wanted = " or ".join(_in_words(term) for term in constraints.affinity)
    return Rejection(
        reason=Reason.AFFINITY_MISMATCH,
        message=f"node affinity asks for {wanted}; {node.name} does not match",
        about=wanted.removeprefix("(").removesuffix(")")
        if len(constraints.affinity) == 1
        else wanted,
    )


def _reached(constraints: Constraints, node: Node) -> Rejection | None:
    if not constraints.volumes:
        return None
    labels = dict(node.labels)
    for terms in constraints.volumes:
        if not any(term_matches(term, labels, node) for term in terms):
            where = " or ".join(_in_words(term) for term in terms)
            return Rejection(
                reason=Reason.VOLUME_ELSEWHERE,
                message=f"its volume is where {where}; {node.name} does not match",
            )
    return None


def blanket_rejection(constraints: Constraints) -> Rejection | None:
    """Return why no node at all will do, however much room it has; None if one may.

    It is not known where a volume is, or whoever admits changes or binds has refused the last try.
    """
    if constraints.refused and not constraints.refused_at:
        return Rejection(reason=Reason.REFUSED_ON_NODE, message=constraints.refused)
    if constraints.barred:
        return Rejection(reason=Reason.NOT_ADMITTED, message=constraints.barred)
    if not constraints.unreadable:
        return None
    return Rejection(
        reason=Reason.VOLUME_UNREADABLE,
        message=f"cannot tell where its volume is: {constraints.unreadable}",
    )


def _known(constraints: Constraints, _: Node) -> Rejection | None:
    return blanket_rejection(constraints)


def _not_refused(constraints: Constraints, node: Node) -> Rejection | None:
    if node.name not in constraints.refused_at:
        return None
    return Rejection(reason=Reason.REFUSED_ON_NODE, message=constraints.refused)


def preference(prefers: Sequence[Preference], node: Node) -> int:
    """Return the sum of the weights of the preferences that the node fulfils.

    An empty term is fulfilled by every node, unlike in what is required.
    """
    labels = dict(node.labels)
    return sum(
        each.weight
        for each in prefers
        if each.term == NodeTerm() or term_matches(each.term, labels, node)
    )


def wants(constraints: Constraints, node: Node) -> bool:
    """Return whether node selector and affinity want the node, however it is."""
    return _selected(constraints, node) is None and _affine(constraints, node) is None


def tolerates_taints(constraints: Constraints, node: Node) -> bool:
    """Return whether the taints of the node, its cordon included, keep nobody like this away."""
    return _tainted(constraints, node) is None and _cordoned(constraints, node) is None


#: What a node must pass before room is looked at, most general first.
CHECKS: Final[tuple[Callable[[Constraints, Node], Rejection | None], ...]] = (
    _not_ready,
    _cordoned,
    _tainted,
    _selected,
    _affine,
    _known,
    _not_refused,
    _reached,
)


def tolerates(constraints: Constraints, taint: Taint) -> bool:
    """Return whether one of the tolerations covers `taint`.

    An empty key or effect covers every one; `Exists` covers every value; operators that this
    version does not know cover nothing.
    """
    return any(
        t.effect in {"", taint.effect}
        and t.key in {"", taint.key}
        and (t.operator == "Exists" or (t.operator in {"", "Equal"} and t.value == taint.value))
        for t in constraints.tolerations
    )


def selects(requirements: Iterable[Requirement], labels: Iterable[tuple[str, str]]) -> bool:
    """Return whether the labels meet every requirement of a label selector."""
    have = dict(labels)
    return all(holds(requirement, have) for requirement in requirements)


def term_matches(term: NodeTerm, labels: Mapping[str, str], node: Node) -> bool:
    """Return whether every requirement of the term holds; an empty term matches no node."""
    if not term.labels and not term.fields:
        return False
    fields = {"metadata.name": str(node.name)}
    return all(holds(r, labels) for r in term.labels) and all(holds(r, fields) for r in term.fields)


def holds(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    """Return whether one line of a selector holds; an operator nobody knows never does."""
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _compares(requirement, value)
        case _:
            return False


def _compares(requirement: Requirement, value: str | None) -> bool:
    """Return whether the label is above (Gt) or below (Lt) the one value, both integers."""
    if value is None or len(requirement.values) != 1:
        return False
    here, limit = _integer(value), _integer(requirement.values[0])
    if here is None or limit is None:
        return False
    return here > limit if requirement.operator == "Gt" else here < limit


def _integer(text: str) -> int | None:
    """Return the integer that Kubernetes reads; None for what it takes for none."""
    if not _INTEGER.fullmatch(text):
        return None
    sign = -1 if text.startswith("-") else 1
    number = sign * int(text.lstrip("+-0") or "0")
    return number if number in _INT64 else None


def _in_words(term: NodeTerm) -> str:
    parts = [
        f"{r.key} {r.operator} {', '.join(r.values)}".rstrip() for r in term.labels + term.fields
    ]
    return "(" + " and ".join(parts) + ")" if parts else "(an empty term, which matches no node)"
