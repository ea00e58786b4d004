"""What one container uses of its node: what it asks for, or what it still has after a resize.

The requests of a running pod may be changed. Until the kubelet has done so the container has what
it had, and its status says that; kube-scheduler counts the larger of both, and so do we. Where a
resize is refused as infeasible only the status counts.
"""

from collections.abc import Mapping

from bayplan.cluster.resources import Resources
from bayplan.cluster.units import Rounding
from bayplan.codec.fields import Field


def asked_by(one: Field) -> Resources:
    """Return what a container, or a pod as a whole, requests; limits count without a request."""
    resources = one.get("resources")
    asked = resources.get("requests").amounts(Rounding.UP)
    limits = resources.get("limits").amounts(Rounding.UP, besides=asked)
    return Resources.of(limits | asked)


def largest(one: Resources, other: Resources) -> Resources:
    """Return the larger amount of each resource."""
    return Resources.of({name: max(one[name], other[name]) for name in {*one, *other}})


def resized(spec: Field, status: Field) -> Mapping[str, Resources]:
    """Return what containers use, by name, that do not have just what they ask for.

    Nearly always that is nobody, which is found without reading any quantity.
    """
    told: dict[str, Field] = {}
    for kind in ("initContainerStatuses", "containerStatuses"):
        told |= {one.get("name").text(""): one for one in status.get(kind).items()}
    if not told:
        return {}
    found: dict[str, Resources] = {}
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind).items():
            name = container.get("name").text("")
            if name in told and _differs(container, told[name]):
                found[name] = _used(container, told[name], refused=_is_refused(status))
    return found


def _differs(container: Field, told: Field) -> bool:
    asked = container.get("resources", "requests").value or {}
    actual = (told.get("allocatedResources").value, told.get("resources", "requests").value)
    return any(amounts not in (None, asked) for amounts in actual)


def _used(container: Field, told: Field, *, refused: bool) -> Resources:
    allocated = Resources.of(told.get("allocatedResources").amounts(Rounding.UP))
    has = largest(allocated, Resources.of(told.get("resources", "requests").amounts(Rounding.UP)))
    return has if refused else largest(has, asked_by(container))


def _is_refused(status: Field) -> bool:
    return any(
        condition.get("type").value == "PodResizePending"
        and condition.get("reason").value == "Infeasible"
        for condition in status.get("conditions").items()
    )
