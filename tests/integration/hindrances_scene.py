"""What a cluster puts in the operator's way for one pod, for a while."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from e2e.cluster import Cluster
from tests.integration.operator_scene import (
    Object,
    User,
)

PODS = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
ADMISSION = "admissionregistration.k8s.io/v1"


@contextmanager
def applied(cluster: Cluster, *objects: Object) -> Iterator[None]:
    """Have objects in the cluster for a while."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    cluster.kubectl_run("apply", "-f", "-", input=text)
    try:
        yield
    finally:
        cluster.kubectl_run("delete", "--ignore-not-found", "-f", "-", input=text)


def webhook_that_is_down(namespace: str, pod: str) -> Object:
    """Return a webhook that nobody answers, for one pod that is to be made."""
    named = f"object.metadata.namespace == '{namespace}' && object.metadata.name == '{pod}'"
    return {
        "apiVersion": ADMISSION,
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"down-{namespace}"},
        "webhooks": [
            {
                "name": "down.example.com",
                "clientConfig": {"url": "https://127.0.0.1:1/"},
                "rules": [{**PODS, "operations": ["CREATE"]}],
                "matchConditions": [{"name": "one-pod", "expression": named}],
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "timeoutSeconds": 1,
            }
        ],
    }


def frozen_annotations(namespace: str, pod: str) -> tuple[Object, Object]:
    """Return a policy by which nobody changes the annotations of one pod."""
    same = "object.metadata.annotations == oldObject.metadata.annotations"
    frozen = {"expression": same, "message": "annotations are frozen"}
    return denying(f"frozen-{namespace}", namespace, pod, frozen)


def denying(name: str, namespace: str, pod: str, *validations: Object) -> tuple[Object, Object]:
    """Return a policy by which no change of one pod goes through that does not pass these."""
    named = f"object.metadata.namespace == '{namespace}' && object.metadata.name == '{pod}'"
    policy = {
        "apiVersion": ADMISSION,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [{**PODS, "operations": ["UPDATE"]}]},
            "matchConditions": [{"name": "one-pod", "expression": named}],
            "validations": list(validations),
        },
    }
    binding = {
        "apiVersion": ADMISSION,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    return policy, binding


def is_refused(user: User, pod: str) -> Callable[[], bool]:
    """Return whether a change of the pod's annotations is refused by now."""

    def refused() -> bool:
        try:
            user.kubectl("annotate", "pod", pod, "probe=1", "--dry-run=server", "--overwrite")
        except Exception as error:  # noqa: BLE001 - whatever kubectl's failure is called
            return "annotations are frozen" in str(error)
        return False

    return refused


def shut_gate(namespace: str, pod: str) -> tuple[Object, Object]:
    """Return a policy by which nobody lifts the gate of one pod, though anybody may rehearse it."""
    probed = "!('probe' in object.metadata.?annotations.orValue({}))"
    kept = "request.dryRun || size(object.spec.?schedulingGates.orValue([])) > 0"
    return denying(
        f"shut-{namespace}",
        namespace,
        pod,
        {"expression": kept, "message": "the gate stays shut"},
        {"expression": probed, "message": "annotations are frozen"},
    )
