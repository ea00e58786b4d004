"""PersistentVolume objects to `Volume` values."""

from bayplan.codec.fields import Raw, top
from bayplan.codec.selectors import node_term
from bayplan.constraints import Volume
from bayplan.keys import ClaimKey


def volume_of(raw: Raw) -> Volume | None:
    """Return the volume; None for one that every node reaches, or that no claim has.

    Raises:
        DecodeError: A field cannot be read.
    """
    root = top(raw, "PersistentVolume")
    spec = root.get("spec")
    terms = spec.get("nodeAffinity", "required", "nodeSelectorTerms")
    claim = spec.get("claimRef")
    if terms.value is None or claim.value is None:
        return None
    if root.get("status", "phase").text("Bound") != "Bound":
        return None  # its claim was deleted, or is yet to take it
    return Volume(
        claim=ClaimKey(
            namespace=claim.get("namespace").text("default"), name=claim.get("name").text()
        ),
        nodes=tuple(sorted(node_term(term) for term in terms.items())),
    )
