"""Asking for a pod's eviction, which PodDisruptionBudgets may refuse."""

from typing import Any

from kubernetes.client.exceptions import ApiException

from bayplan.cluster.keys import PodKey
from bayplan_operator.cluster.kube import Kube, pod_path, refusal_of


def evict(
    kube: Kube, pod: PodKey, uid: str, *, version: str = "", rehearse: bool = False
) -> str | None:
    """Evict the pod with this uid; return why that is refused, or "" when it goes.

    None when it is gone, or of another resourceVersion than the one that is given. A budget has
    nothing left (429), a pod has more than one budget (500), an admission policy says no (403), the
    server is overloaded (503): each may be so for one pod and not for the next. To `rehearse` is to
    ask whether it would be refused, and leave it where it is.

    Raises:
        ApiException: There was no answer.
    """
    try:
        ask_to_leave(kube, pod, uid, version=version, rehearse=rehearse)
    except ApiException as error:
        return refusal_of(error)
    return ""


def ask_to_leave(
    kube: Kube, pod: PodKey, uid: str, *, version: str = "", rehearse: bool = False
) -> None:
    """Evict the pod as `evict` does.

    Raises:
        ApiException: It is refused, the pod is gone (404) or another one (409), or there was no
            answer.
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
    kube.create(f"{pod_path(pod)}/eviction", body)
