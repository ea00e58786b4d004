"""The condition Exposed: whether the Services and the InferencePool lead to the pods.

It says nothing about the pods themselves: they run and serve whatever becomes of these.
"""

from typing import Final

from bayplan.api.conditions import ConditionStatus
from bayplan.inference import network
from bayplan.inference.deployments import Deployment
from bayplan.inference.network import Exposure
from bayplan.inference.tally import Finding

_TRUE: Final = ConditionStatus.TRUE
_FALSE: Final = ConditionStatus.FALSE
_KIND: Final = "Exposed"

#: Reasons for which somebody has to do something, to be told as events, too.
HINDRANCES: Final = frozenset({"NamesTaken", "InferencePoolUnknown", "Refused"})


def exposed(
    deployment: Deployment, made: Exposure, *, refusal: str = "", unknown: bool = False
) -> Finding:
    """Return whether what should lead to the pods does.

    `refusal` is why the API server refuses one of the objects, or ""; `unknown` whether the
    cluster has no InferencePools.
    """
    if made.taken:
        message = (
            f"{', '.join(made.taken)}: there is one of another owner; delete it, or rename this"
            " InferenceDeployment or its pool"
        )
        return Finding.of(_KIND, _FALSE, "NamesTaken", message)
    if refusal:
        return Finding.of(_KIND, _FALSE, "Refused", refusal)
    if unknown:
        message = (
            f"the cluster does not know {network.INFERENCE_POOL} ({network.INFERENCE_API}): install"
            " the Gateway API Inference Extension, or remove spec.inferencePool; all else works"
        )
        return Finding.of(_KIND, _FALSE, "InferencePoolUnknown", message)
    there = ", ".join(
        f"{raw['kind']} {raw['metadata']['name']}" for raw in network.manifests(deployment)
    )
    if made.silent:
        silent = (
            f"no Service for {', '.join(made.silent)}: declare the ports of the containers to have"
            " one"
        )
        there = f"{there}; {silent}" if there else silent
    if len(made.silent) == len(deployment.pools):
        return Finding.of(_KIND, _FALSE, "NoPorts", there)
    return Finding.of(_KIND, _TRUE, "Exposed", there)
