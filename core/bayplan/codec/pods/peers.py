"""What a pod asks of the pods around it: affinity, anti-affinity, spread, and its gang's topology.

What cannot be told from the pod alone is read to the safe side: an anti-affinity covers more pods
than it may have to, an affinity fewer.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from bayplan.api import names
from bayplan.cluster.constraints import (
    GangTopology,
    Peers,
    PodSelector,
    PodTerm,
    Requirement,
    Spread,
)
from bayplan.codec.fields import Field
from bayplan.codec.selectors import lenient_selector

#: Where Kubernetes keeps rules that hold when a pod is placed, and not later.
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"

#: Operators that a label selector knows.
_OPERATORS: Final = frozenset({"In", "NotIn", "Exists", "DoesNotExist"})


def peers_of(spec: Field, labels: Mapping[str, str], namespace: str) -> Peers | None:
    """Return the rules between this pod and others; None when it has none.

    Raises:
        DecodeError: A rule cannot be read.
    """
    affinity, spread = spec.get("affinity"), spec.get("topologySpreadConstraints")
    if affinity.value is None and spread.value is None:
        return None
    apart = affinity.get("podAntiAffinity", _REQUIRED).items()
    beside = affinity.get("podAffinity", _REQUIRED).items()
    found = Peers(
        repels=tuple(sorted({_repelled(term, labels, namespace) for term in apart})),
        attracts=_by_all([_attracting(term, labels, namespace) for term in beside]),
        spreads=tuple(
            sorted({_spread(each, labels, namespace) for each in spread.items() if _is_hard(each)})
        ),
    )
    return None if found == Peers() else found


def gang_topology_of(metadata: Field) -> GangTopology | None:
    """Return where a gang's pods are to be, as the annotations of one of them say it."""
    annotations = metadata.get("annotations")
    required = annotations.get(names.ANNOTATION_TOPOLOGY_REQUIRED).text("").strip()
    listed = annotations.get(names.ANNOTATION_TOPOLOGY_PREFERRED).text("").split(",")
    preferred = tuple(dict.fromkeys(key.strip() for key in listed if key.strip()))
    if not required and not preferred:
        return None
    return GangTopology(required=required, preferred=preferred)


def _repelled(term: Field, labels: Mapping[str, str], namespace: str) -> PodTerm:
    """Return a term of anti-affinity; what cannot be judged narrows it by nothing."""
    everywhere = term.get("namespaceSelector").value is not None
    known = tuple(r for r in _selected(term, labels) if r.operator in _OPERATORS)
    return PodTerm(
        key=_key(term),
        pods=PodSelector(
            namespaces=() if everywhere else _namespaces(term, namespace),
            labels=tuple(sorted(known)),
            nobody=term.get("labelSelector").value is None,
        ),
    )


def _attracting(term: Field, labels: Mapping[str, str], namespace: str) -> PodTerm:
    """Return a term of affinity; what cannot be judged selects nobody."""
    selector = term.get("namespaceSelector")
    everywhere = selector.value is not None and not lenient_selector(selector)
    selected = _selected(term, labels)
    listed = bool(term.get("namespaces").texts()) or selector.value is None
    known = all(r.operator in _OPERATORS for r in selected) and (everywhere or listed)
    return PodTerm(
        key=_key(term),
        pods=PodSelector(
            namespaces=() if everywhere else _namespaces(term, namespace),
            labels=tuple(sorted(selected)),
            nobody=term.get("labelSelector").value is None or not known,
        ),
    )


def _by_all(terms: Sequence[PodTerm]) -> tuple[PodTerm, ...]:
    """Return the terms of affinity, each with the selectors of all of them.

    To kube-scheduler nobody is company for one of them who is not meant by all.
    """
    pods = [term.pods for term in terms]
    listed = [set(each.namespaces) for each in pods if each.namespaces]
    common = set.intersection(*listed) if listed else set()
    meant = PodSelector(
        namespaces=tuple(sorted(common)),
        labels=tuple(sorted({line for each in pods for line in each.labels})),
        nobody=any(each.nobody for each in pods) or (bool(listed) and not common),
    )
    return tuple(sorted({PodTerm(key=term.key, pods=meant) for term in terms}))


def _selected(term: Field, labels: Mapping[str, str]) -> list[Requirement]:
    """Return what a term asks of labels, those that it takes from the pod itself included."""
    found = [*lenient_selector(term.get("labelSelector"))]
    for name, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
        found += [
            Requirement(key=key, operator=operator, values=(labels[key],))
            for key in term.get(name).texts()
            if key in labels
        ]
    return [*dict.fromkeys(found)]


def _namespaces(term: Field, namespace: str) -> tuple[str, ...]:
    return tuple(sorted(term.get("namespaces").texts())) or (namespace,)


def _key(term: Field) -> str:
    field = term.get("topologyKey")
    if not field.text():
        raise field.error("should be the label of nodes that makes a domain, is empty")
    return field.text()


def _is_hard(constraint: Field) -> bool:
    """Return whether a spread must hold; one that this version does not know is only a wish."""
    return constraint.get("whenUnsatisfiable").text("DoNotSchedule") == "DoNotSchedule"


def _spread(constraint: Field, labels: Mapping[str, str], namespace: str) -> Spread:
    """Return a spread; an empty selector, unlike one of affinity, counts no pod."""
    selector, selected = constraint.get("labelSelector"), _selected(constraint, labels)
    return Spread(
        key=_key(constraint),
        pods=PodSelector(
            namespaces=(namespace,),
            labels=tuple(sorted(selected)),
            nobody=selector.value is None or not selected,
        ),
        max_skew=_at_least_one(constraint.get("maxSkew")),
        min_domains=_at_least_one(constraint.get("minDomains")),
        honours_affinity=constraint.get("nodeAffinityPolicy").text("Honor") == "Honor",
        honours_taints=constraint.get("nodeTaintsPolicy").text("Ignore") == "Honor",
    )


def _at_least_one(field: Field) -> int:
    number = field.integer(1)
    if number < 1:
        raise field.error(f"should be 1 or more, is {number}")
    return number
