"""Asking for a pod's eviction, which PodDisruptionBudgets may refuse."""

from typing import Any, Final

from kubernetes.client.exceptions import ApiException

from bayplan.snapshot import PodKey
from bayplan_operator.kube import OVERTAKEN, Kube, message_of, pod_path

#: A budget has nothing left (429), a pod has more than one budget (500), or an admission policy
#: says no (the others).
_REFUSED: Final = frozenset({400, 403, 422, 429, 500})


def evict(
    kube: Kube, pod: PodKey, uid: str, *, version: str = "", rehearse: bool = False
) -> str | None:
    """Evict the pod with this uid; return why that is refused, or "" when it goes.

    None when it is gone, or of another resourceVersion than the one that is given. To `rehearse`
    is to ask whether it would be refused, and leave it where it is.

    Raises:
        ApiException: The API server failed in another way.
    """
    options: dict[str, Any] = {"preconditions": {"uid": uid}}
    if version:
        options["preconditions"]["resourceVersion"] = version
    if rehearse:
        options["dryRun"] = ["All"]
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"namespace": pod.namespace, "name": pod.name},
        "deleteOptions": options,
    }
    try:
        kube.create(f"{pod_path(pod)}/eviction", body)
    except ApiException as error:
        if error.status in OVERTAKEN:
            return None
        if error.status in _REFUSED:
            return message_of(error)
        raise
    return ""
