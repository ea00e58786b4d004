"""The gang that a pod is of, by its labels, and how many pods make it whole."""

from typing import Final

from bayplan.api import names
from bayplan.cluster import units
from bayplan.cluster.keys import GangKey, PodKey
from bayplan.cluster.pods import UNKNOWN_COUNT
from bayplan.codec.fields import Field

#: Between the name of a gang and the group it is of; no label has one.
_IN_GROUP: Final = "/"


def selector_of(gang: GangKey) -> str:
    """Return the label selector of the pods of a gang."""
    name, _, group = gang.name.partition(_IN_GROUP)
    within = f"{names.LABEL_LWS_GROUP}={group}" if group else f"!{names.LABEL_LWS_GROUP}"
    return f"{names.LABEL_GANG}={name},{within}"


def gang_of(metadata: Field, key: PodKey, *, grouped: bool) -> tuple[GangKey | None, int]:
    """Return the gang that a pod is of, and how many pods make it whole.

    All groups of a LeaderWorkerSet have one template, and with it one label: each is a gang where
    the pod may be `grouped`. A unit of an InferenceDeployment is one, whatever its templates say.
    """
    name = metadata.get("labels", names.LABEL_GANG).text("")
    if not name:
        return None, 0
    group = metadata.get("labels", names.LABEL_LWS_GROUP).text("")
    if group and grouped:
        name = f"{name}{_IN_GROUP}{group}"
    count = metadata.get("labels", names.LABEL_GANG_MIN_COUNT)
    size = int(count.text()) if has_count(metadata) else UNKNOWN_COUNT
    return GangKey(namespace=key.namespace, name=name), size


def has_count(metadata: Field) -> bool:
    """Return whether the gang's size can be read.

    Without it a running pod keeps its room, and a waiting one is held with the reason.
    """
    text = metadata.get("labels", names.LABEL_GANG_MIN_COUNT).text("")
    return bool(units.whole_number(text))


def check_alone(metadata: Field) -> None:
    """Complain of a pod of no gang that says something else: it would go without the others.

    Raises:
        DecodeError: It has the size of a gang without its name, or has either as an annotation.
    """
    misplaced = (
        ("labels", names.LABEL_GANG_MIN_COUNT),
        ("annotations", names.LABEL_GANG),
        ("annotations", names.LABEL_GANG_MIN_COUNT),
    )
    for kind, name in misplaced:
        field = metadata.get(kind, name)
        if field.value is not None:
            raise field.error(
                f"the pod is of no gang without the label {names.LABEL_GANG}: add that one, with"
                f" the name of the gang, and its size as the label {names.LABEL_GANG_MIN_COUNT};"
                " or remove this"
            )
