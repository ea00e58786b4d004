"""Putting pods into service and taking them out: the readiness gate of pods that are ours.

Deployments do it with units that come and go, whoever carries out a plan with its victims.
"""

from bayplan.api import names
from bayplan.cluster.keys import PodKey
from bayplan_operator.cluster.kube import Kube, Raw, pod_path


def put(kube: Kube, pod: PodKey, uid: str, condition: Raw) -> None:
    """Set a condition of `bayplan.codec.service` on the pod with this uid; its readiness follows.

    Raises:
        ApiException: The API server refuses it, the pod is gone (404) or another one (409).
    """
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod.name, "uid": uid},
        "status": {"conditions": [condition]},
    }
    kube.apply(f"{pod_path(pod)}/status", body, manager=names.MANAGER_SERVICE)
