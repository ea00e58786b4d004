"""What a pod asks of the node it comes to, and the node that it is pinned to."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from bayplan.api import names
from bayplan.cluster.constraints import Constraints, NodeTerm, Preference, Requirement, Toleration
from bayplan.codec.fields import Field
from bayplan.codec.memo import Memo
from bayplan.codec.pods.peers import peers_of
from bayplan.codec.selectors import node_term

#: The node field by which a pod is pinned to one node.
PIN_FIELD = "metadata.name"

#: The weights that a preferred node affinity may have.
_WEIGHTS: Final = range(1, 101)

#: The parts that say where it may go, those with rules between pods first.
_PLACING: Final = ("affinity", "topologySpreadConstraints", "nodeSelector", "tolerations")
_PLACINGS: Final = Memo[tuple[str, Constraints]]()


def placing_of(
    metadata: Field, spec: Field, labels: Mapping[str, str], namespace: str, *, gated: bool
) -> tuple[str, Constraints]:
    """Return the node that the pod is pinned to, or "", and what it asks of a node beside that.

    We pin a pod as we lift its gate: behind one a pin is its own, whatever its annotations say. It
    may have been made from the manifest of a pod that had its place.
    """
    planned = not gated and bool(metadata.get("annotations", names.ANNOTATION_PLAN).text(""))
    rules = spec.parts(*_PLACING)
    # Only rules between pods look at the pod's own labels, which may be different for each.
    peers = (dict(labels), namespace) if any(rules[:2]) else ()
    return _PLACINGS.read(
        (planned, peers, rules),
        lambda: (pinned_node(spec), _constraints(spec, labels, namespace, planned=planned)),
    )


def pinned_node(spec: Field) -> str:
    """Return the one node that every required affinity term pins the pod to, or "".

    But for empty terms, which no node meets.
    """
    pins = {_pin(term) for term in _terms(spec) if term.labels or term.fields}
    return pins.pop() if len(pins) == 1 else ""


def _constraints(
    spec: Field, labels: Mapping[str, str], namespace: str, *, planned: bool
) -> Constraints:
    """Return what the pod asks of a node, without the pin by which we placed it.

    The pod that takes a moved one's place comes without that pin, so a plan may move it anywhere
    that its own constraints allow.
    """
    terms = _terms(spec)
    if planned:
        terms = [term for term in map(_without_pin, terms) if term.labels or term.fields]
    return Constraints(
        node_selector=tuple(sorted(spec.get("nodeSelector").labels().items())),
        affinity=tuple(sorted(terms)),
        tolerations=tuple(sorted(_toleration(t) for t in spec.get("tolerations").items())),
        prefers=tuple(sorted(_preferences(spec))),
        peers=peers_of(spec, labels, namespace),
    )


def _preferences(spec: Field) -> Iterator[Preference]:
    affinity = spec.get("affinity", "nodeAffinity")
    for each in affinity.get("preferredDuringSchedulingIgnoredDuringExecution").items():
        weight = each.get("weight")
        if weight.integer() not in _WEIGHTS:
            raise weight.error(f"should be 1 to {_WEIGHTS[-1]}, is {weight.value}")
        yield Preference(weight=weight.integer(), term=node_term(each.get("preference")))


def _terms(spec: Field) -> list[NodeTerm]:
    affinity = spec.get("affinity", "nodeAffinity")
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return [node_term(term) for term in required.get("nodeSelectorTerms").items()]


def _toleration(field: Field) -> Toleration:
    return Toleration(
        key=field.get("key").text(""),
        operator=field.get("operator").text("Equal"),
        value=field.get("value").text(""),
        effect=field.get("effect").text(""),
    )


def _pin(term: NodeTerm) -> str:
    pins = [r.values[0] for r in term.fields if r.key == PIN_FIELD and _is_one_value(r)]
    return pins[0] if pins else ""


def _without_pin(term: NodeTerm) -> NodeTerm:
    """Return the term without its last field where that is a pin: ours is added last."""
    if term.fields and term.fields[-1].key == PIN_FIELD and _is_one_value(term.fields[-1]):
        return replace(term, fields=term.fields[:-1])
    return term


def _is_one_value(requirement: Requirement) -> bool:
    return requirement.operator == "In" and len(requirement.values) == 1
