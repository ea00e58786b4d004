"""GPU products in order of preference, as the node affinity that schedulers understand.

The first product is wanted most, any of them will do, no other will. What a template asks for by
itself goes on to hold.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

#: The node label that tells the product, for each vendor's GPUs.
LABELS: Final = {
    "nvidia.com/gpu": "nvidia.com/gpu.product",
    "amd.com/gpu": "amd.com/gpu.product-name",
}

#: The weight of the first product; the others share what lies below it.
_MOST: Final = 100

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"


def label_for(resources: Iterable[str]) -> str | None:
    """Return the node label that tells the product of the GPUs among `resources`."""
    return next((LABELS[name] for name in resources if name in LABELS), None)


def preferring(spec: Mapping[str, Any], label: str, products: Sequence[str]) -> dict[str, Any]:
    """Return a pod's spec that takes these products, the first before the others."""
    affinity = spec.get("affinity") or {}
    node = affinity.get("nodeAffinity") or {}
    any_of_them = {"key": label, "operator": "In", "values": list(products)}
    # Terms are alternatives: each must ask for it. One that asks for nothing is met by no node.
    terms = (node.get(_REQUIRED) or {}).get("nodeSelectorTerms") or []
    asked = [
        {**term, "matchExpressions": [*(term.get("matchExpressions") or []), any_of_them]}
        if any(term.values())
        else term
        for term in terms
    ] or [{"matchExpressions": [any_of_them]}]
    made = {**node, _REQUIRED: {"nodeSelectorTerms": asked}}
    if len(products) > 1:
        made[_PREFERRED] = [*(node.get(_PREFERRED) or []), *_wishes(label, products)]
    return {**spec, "affinity": {**affinity, "nodeAffinity": made}}


def _wishes(label: str, products: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "weight": _MOST * (len(products) - rank) // len(products),
            "preference": {
                "matchExpressions": [{"key": label, "operator": "In", "values": [product]}]
            },
        }
        for rank, product in enumerate(products)
    ]
