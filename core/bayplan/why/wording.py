"""Holds in words: what a pod or a gang is short of, and what helps against each reason."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from bayplan.api import names
from bayplan.cluster import units
from bayplan.cluster.pods import UNKNOWN_COUNT, Pod
from bayplan.cluster.resources import Resources
from bayplan.plan import Reason, Rejection
from bayplan.rules import filters
from bayplan.why import reasons
from bayplan.why.rooms import Room

_ADD: Final = "add {a_node} with {asks}"
_FREE: Final = "free {asks} on {one}, or add {a_node} with {asks}"
_ALLOW: Final = "allow the pod on {a_node} with {asks}, or add a node that it accepts"

#: What would help against a refusal: `{asks}` is what the pod needs, `{a_node}` and `{one}` are a
#: node on which it could be. All others: `_ALLOW`.
_REMEDIES: Final = {
    Reason.TOO_SMALL: _ADD,
    Reason.NO_NODES: _ADD,
    Reason.OUTRANKED: _ADD,
    Reason.INSUFFICIENT_ROOM: _FREE,
    Reason.NO_PLACE_FOUND: _FREE,
    Reason.GANG_DOES_NOT_FIT: _FREE,
    Reason.DISRUPTION_FORBIDDEN: _ADD,
    Reason.NODE_CORDONED: "uncordon {a_node} with {asks}, or add one",
    Reason.HOST_PORT_TAKEN: "free the port on {a_node} with {asks}, or add {a_node} with {asks}",
    Reason.VOLUME_ELSEWHERE: "add {a_node} with {asks}, or give the pod another volume",
    Reason.POD_ANTI_AFFINITY: (
        "free {asks} where nobody is whom it keeps apart, or prefer instead of require"
    ),
    Reason.TOPOLOGY_SPREAD: "free {asks} in the emptiest domain, or raise maxSkew",
    Reason.POD_AFFINITY: "free {asks} beside a pod that it asks for, or prefer instead of require",
    Reason.GANG_TOPOLOGY: "free room for the whole gang in one domain, or prefer it to be in one",
    Reason.NOT_ADMITTED: (
        "correct the pod, or the admission policy that refuses it; it is planned again when"
        " cooldownSeconds of the PackingPolicy are over"
    ),
    Reason.REFUSED_ON_NODE: (
        "correct what was refused, in its owner's template or on that node: a change of either has"
        " it tried at once"
    ),
}

#: What helps a group of a LeaderWorkerSet that lacks pods: mostly its number counts all groups.
_GROUP: Final = (
    f"each group is a gang of its own: set label {names.LABEL_GANG_MIN_COUNT} to the size of a"
    " group in both templates, and startupPolicy to LeaderCreated; if they are, events of the"
    " owners of its pods say if pods are refused"
)

#: The node of a pod with volumes: no other one helps.
_REACHING: Final = "a node that reaches its volume"


def remedy_for(pod: Pod, rejection: Rejection) -> str:
    """Return what would help, in the terms of the refusal."""
    said = _REMEDIES.get(rejection.reason, _ALLOW)
    a_node, one = (_REACHING, _REACHING) if pod.constraints.volumes else ("a node", "one node")
    return said.format(asks=reasons.in_words(pod.requests), a_node=a_node, one=one)


def incomplete(pod: Pod, existing: int, min_count: int) -> tuple[Rejection, str]:
    """Return why the gang of a pod waits that lacks some, and who is to make them."""
    if min_count == UNKNOWN_COUNT:
        message = f"label {names.LABEL_GANG_MIN_COUNT} does not say how many pods make it whole"
        rejection = Rejection(reason=Reason.GANG_INCOMPLETE, message=message)
        return rejection, "set the label to that number on every pod of the gang"
    missing, owner = min_count - existing, pod.owner
    group = dict(pod.labels).get(names.LABEL_LWS_GROUP)
    where = f" in group {group} of its LeaderWorkerSet" if group else ""
    rejection = Rejection(
        reason=Reason.GANG_INCOMPLETE, message=f"{existing} of {min_count} pods exist{where}"
    )
    if group:
        return rejection, _GROUP
    pods = f"the {missing} missing pod{'' if missing == 1 else 's'}"
    if owner is None:
        return rejection, f"create {pods}"
    if owner.kind == names.KIND_DEPLOYMENT:
        return rejection, f"condition Degraded of {owner} says what keeps it from making {pods}"
    return rejection, f"create {pods}; events of {owner} say if its pods are refused"


def not_found(why: Rejection | None) -> Rejection:
    """Return that no place was found, which proves nothing, and `why` if something is known."""
    rest = f": {why.message}" if why else ""
    return Rejection(
        reason=Reason.NO_PLACE_FOUND,
        message=f"no place found, and none is ruled out{rest}",
        resolvable=True,
    )


def left_too_little(pod: Pod, rooms: Sequence[Room], short: Counter[str]) -> str:
    """Return what a pod that is outranked is short of, and what is left of it in `rooms`.

    `short` are the nodes that lack it, by resource.
    """
    count = sum(room.count for room in rooms)
    resource = max(
        short,
        key=lambda name: (short[name] == count, filters.is_about_gpus(name), short[name], name),
    )
    who = f"pods of priority >= {pod.priority}"
    if short[resource] < count:
        asks = reasons.in_words(pod.requests)
        return f"needs {asks} on one node; {who} and pods that must stay leave all of that on none"
    if resource == "pods":
        many = "are as many as a node takes"
        return f"needs room for another pod; where it may be, {who} and pods that must stay {many}"
    most = max(0, *(filters.free_of(resource, room.free) for room in rooms))
    total = sum(room.node.allocatable[resource] * room.count for room in rooms)
    nodes = [room.node for room in rooms]
    need = reasons.words(resource, pod.requests[resource], nodes)
    if units.is_share(resource):
        left = units.part_of_one(most)
        return f"needs {need}; {who} and pods that must stay leave {left}"
    if most > 0:
        left, _ = units.texts(resource, most, pod.requests[resource])
        return f"needs {need} on one node; {who} and pods that must stay leave at most {left}"
    there = reasons.words(resource, total, nodes)
    taken = f"the {there} it may use is" if total == 1 else f"all {there} it may use are"
    return f"needs {need} on one node; {taken} taken by {who} or by pods that must stay"


def needs(gang: Sequence[Pod]) -> str:
    """Return what the members need in words: "1 x 8 GPUs, 2 x 4 GPUs"."""
    counts = Counter(_main(pod.requests) for pod in sorted(gang, key=largest_first))
    return ", ".join(f"{n} x {what}" for what, n in counts.items())


def rules_between(pods: Sequence[Pod]) -> str:
    """Return what the pods ask of others, in words: "anti-affinity over zone"; "" if nothing."""
    asked = [pod.constraints.peers for pod in pods if pod.constraints.peers]
    told = {f"anti-affinity over {term.key}" for each in asked for term in each.repels}
    told |= {f"affinity over {term.key}" for each in asked for term in each.attracts}
    told |= {
        f"spread over {each.key} with a skew of at most {each.max_skew}"
        for peers in asked
        for each in peers.spreads
    }
    return ", ".join(sorted(told))


def with_room(some: int, members: int) -> str:
    """Return how many of a gang have room."""
    if not some:
        return "none of its pods has room"
    return f"{some} of its {members} pods {'has' if some == 1 else 'have'} room"


def either(first: str, second: str) -> str:
    """Return both remedies as one sentence."""
    return f"{first}, or {second}" if first else second


def largest_first(pod: Pod) -> tuple[object, ...]:
    """Return what sorts the pods of a gang so that the largest are placed first."""
    share = pod.requests.share_milli
    return (-pod.requests.gpus, -share, [-n for _, n in pod.requests.items], pod.key)


def _main(requests: Resources) -> str:
    gpus = [units.words(name, n) for name, n in requests.items if filters.is_about_gpus(name)]
    return " and ".join(gpus) if gpus else reasons.in_words(requests)
