"""The Services and the InferencePool of an InferenceDeployment, read and written.

The core decides (`inference.network`). Nothing here holds up the pods: what cannot be written is
told in the condition Exposed, and tried again on the next pass.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.inference import network
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment
from bayplan.inference.exposed import exposed
from bayplan.inference.network import INFERENCE_POOL, SERVICE
from bayplan.inference.tally import Finding
from bayplan_operator.cluster.kube import (
    Kube,
    Raw,
    inference_pools_path,
    message_of,
    services_path,
)

#: The cluster does not know the kind.
_UNKNOWN: Final = 404


class Network:
    """Keeps what leads to the pods as it should be."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    def reconcile(
        self, deployment: Deployment, seen: Sequence[Child], *, spec_is_new: bool
    ) -> Finding:
        """Do one pass; return whether everything leads to the pods.

        An InferencePool that is not asked for any more is looked for when the spec is new.
        """
        made = network.changes(deployment, seen, self._there(deployment, spec_is_new=spec_is_new))
        refusals = [self._delete(raw) for raw in made.delete]
        refusals += [self._apply(raw) for raw in made.apply]
        return exposed(
            deployment,
            made,
            refusal=next((text for text in refusals if text), ""),
            unknown=None in refusals,
        )

    def _there(self, deployment: Deployment, *, spec_is_new: bool) -> list[Raw]:
        """Return what there is, and what somebody else has under our names."""
        labels = f"{names.LABEL_DEPLOYMENT}={deployment.name}"
        services = services_path(deployment.namespace)
        found = [{**raw, "kind": SERVICE} for raw in self._kube.items(services, labels=labels)]
        known = {raw["metadata"]["name"] for raw in found}
        wanted = network.manifests(deployment)
        paths = [
            _path(raw)
            for raw in wanted
            if raw["kind"] == INFERENCE_POOL or raw["metadata"]["name"] not in known
        ]
        if spec_is_new and deployment.gateway is None:
            paths.append(f"{inference_pools_path(deployment.namespace)}/{deployment.name}")
        others = (self._kube.get(path) for path in paths)
        return [*found, *(raw for raw in others if raw is not None)]

    def _delete(self, raw: Mapping[str, Any]) -> str | None:
        """Remove one object; return why it is refused, or ""."""
        try:
            self._kube.delete(_path(raw), uid=raw["metadata"]["uid"])
        except ApiException as error:
            return _refusal(raw, error)
        return ""

    def _apply(self, raw: dict[str, Any]) -> str | None:
        """Make or correct one object; return why it is refused, or "", or None: no such kind."""
        try:
            # What another one has made in this moment under the name is not taken over.
            ours = "uid" in raw["metadata"]
            self._kube.apply(_path(raw), raw, manager=names.MANAGER_NETWORK, force=ours)
        except ApiException as error:
            if error.status == _UNKNOWN and raw["kind"] == INFERENCE_POOL:
                return None
            return _refusal(raw, error)
        return ""


def _refusal(raw: Mapping[str, Any], error: ApiException) -> str:
    """Return why one object is refused; whoever fails for it may serve the next one.

    Raises:
        ApiException: There was no answer, so the others fare no better.
    """
    if not error.status:
        raise error
    return f"the API server refuses {raw['kind']} {raw['metadata']['name']}: {message_of(error)}"


def _path(raw: Mapping[str, Any]) -> str:
    namespace, name = raw["metadata"]["namespace"], raw["metadata"]["name"]
    paths = services_path if raw["kind"] == SERVICE else inference_pools_path
    return f"{paths(namespace)}/{name}"
