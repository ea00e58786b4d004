"""PersistentVolume objects to `Volume` values."""

from bayplan.cluster.constraints import Volume
from bayplan.cluster.keys import ClaimKey
from bayplan.codec.fields import DecodeError, Field, Raw, top
from bayplan.codec.selectors import node_term

_KIND = "PersistentVolume"


def volume_of(raw: Raw) -> Volume | None:
    """Return the volume; None for one that every node reaches, or that no claim has.

    Raises:
        DecodeError: A field cannot be read.
    """
    root = top(raw, _KIND)
    claim = _claim(root)
    terms = root.get("spec", "nodeAffinity", "required", "nodeSelectorTerms")
    if claim is None or terms.value is None:
        return None
    return Volume(claim=claim, nodes=tuple(sorted(node_term(term) for term in terms.items())))


def unreadable_volume(raw: Raw, error: DecodeError) -> Volume | None:
    """Return what stands for a volume that cannot be read; None if no claim is known to have it.

    Nobody knows where it is, so nobody is sent anywhere with it.
    """
    try:
        claim = _claim(top(raw, _KIND))
    except DecodeError:
        return None
    return None if claim is None else Volume(claim=claim, nodes=(), problem=str(error))


def _claim(root: Field) -> ClaimKey | None:
    """Return the claim that has the volume; None if it was deleted, or is yet to take it."""
    claim = root.get("spec", "claimRef")
    if claim.value is None or root.get("status", "phase").text("Bound") != "Bound":
        return None
    return ClaimKey(namespace=claim.get("namespace").text("default"), name=claim.get("name").text())
