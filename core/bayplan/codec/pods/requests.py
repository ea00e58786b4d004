"""What a pod uses on its node: the sum of its containers, its host ports, its share of a GPU."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from bayplan.api import names
from bayplan.cluster import units
from bayplan.cluster.resources import Resources
from bayplan.cluster.units import Rounding
from bayplan.codec.fields import Field
from bayplan.codec.memo import Memo
from bayplan.codec.pods.containers import asked_by, largest, resized

#: The ports that there are.
_PORTS: Final = range(1, 65_536)

#: The largest number of a GPU that is believed; no node has so many.
_MAX_DEVICE: Final = 1023

#: The parts of a pod's spec that say what it uses on its node, and what was read from them.
_ASKING: Final = ("initContainers", "containers", "resources", "overhead", "hostNetwork")
_REQUESTS: Final = Memo[Resources]()


def used_by(metadata: Field, spec: Field, status: Field, *, placed: bool) -> Resources:
    """Return what a pod uses on its node, with its share of a GPU.

    Of a pod that has a node nothing is complained of: what cannot be read counts as a whole GPU.
    """
    asks = requests(spec, resized(spec, status) if placed else {})
    field = metadata.get("annotations", names.ANNOTATION_GPU_SHARE)
    if field.value is None:
        return asks
    if not placed:
        check_share(metadata, asks)
    milli = _share_milli(field)
    if milli is not None and not asks[units.SHARED_GPU]:
        share = asks + Resources.of({units.share(milli): 1})
        return share.on_device(device_of(metadata)) if placed else share
    return asks if asks[units.SHARED_GPU] else asks + Resources.of({units.SHARED_GPU: 1})


def check_share(metadata: Field, asks: Resources) -> None:
    """Complain of a share of a GPU by which a pod that asks for this cannot be planned.

    Raises:
        DecodeError: It is no share, or the pod asks for whole GPUs as well.
    """
    field = metadata.get("annotations", names.ANNOTATION_GPU_SHARE)
    if field.value is None:
        return
    if _share_milli(field) is None:
        raise field.error(
            f"should be the part of one GPU that the pod asks for, above 0 and below 1 such as "
            f'"0.5", is {field.value!r}; whole GPUs are asked for as {units.SHARED_GPU}'
        )
    if asks[units.SHARED_GPU]:
        raise field.error(
            f"the pod asks for {units.words(units.SHARED_GPU, asks[units.SHARED_GPU])} as well; "
            "remove the annotation or the request"
        )


def requests(spec: Field, instead: Mapping[str, Resources] = MappingProxyType({})) -> Resources:
    """Return what a pod uses on its node, `pods: 1` and its host ports included.

    The sum over containers, or the largest init container where that is more; restartable init
    containers (sidecars) count as containers; what the pod requests as a whole (`spec.resources`)
    goes before that, resource by resource, and its limits after it; overhead on top (as
    kube-scheduler computes it).
    A host port counts on every address of the node, also where the pod asks for one address.
    `instead` is what single containers use, by name, other than what they ask for.
    """
    if instead:
        return _requests_of(spec, instead)
    return _REQUESTS.read(spec.parts(*_ASKING), lambda: _requests_of(spec, instead))


def device_of(metadata: Field) -> int | None:
    """Return the number of the GPU that the pod has its share on; None where nobody knows."""
    said = metadata.get("annotations", names.ANNOTATION_GPU_DEVICE).value
    device = units.whole_number(str(said))
    return device if device is not None and device <= _MAX_DEVICE else None


def _requests_of(spec: Field, instead: Mapping[str, Resources]) -> Resources:
    def used(container: Field) -> Resources:
        return (instead and instead.get(container.get("name").text(""))) or asked_by(container)

    running = Resources.of({"pods": 1})
    peak = Resources()
    for container in spec.get("initContainers").items():
        asks = used(container)
        if container.get("restartPolicy").text("") == "Always":
            running = running + asks
            peak = largest(peak, running)
        else:
            peak = largest(peak, running + asks)
    for container in spec.get("containers").items():
        running = running + used(container)
    overhead = Resources.of(spec.get("overhead").amounts(Rounding.UP))
    said = Resources.of(spec.get("resources", "requests").amounts(Rounding.UP))
    # A limit counts where nobody says a request, as the API server has it.
    parts = (asked_by(spec), largest(running, peak), said)
    asked = Resources.of({name: n for part in parts for name, n in part.items})
    total = asked + overhead + _host_ports(spec)
    for name, n in total.items:
        if n > units.MAX_AMOUNT:
            raise spec.error(f"requests {n} of {name} in sum, which is too large to be meant")
    return total


def _host_ports(spec: Field) -> Resources:
    """Return the ports of the node that the pod takes; on the host's network that is every one."""
    on_host = spec.get("hostNetwork").flag()
    taken: dict[str, int] = {}
    sidecars = [
        container
        for container in spec.get("initContainers").items()
        if container.get("restartPolicy").text("") == "Always"
    ]
    for container in [*sidecars, *spec.get("containers").items()]:
        for port in container.get("ports").items():
            own = port.get("containerPort").integer(0) if on_host else 0
            number = port.get("hostPort").integer(0) or own
            if number and number not in _PORTS:
                raise port.get("hostPort").error(f"should be 1 to {_PORTS[-1]}, is {number}")
            if number:
                taken[units.host_port(number, port.get("protocol").text("TCP"))] = 1
    return Resources.of(taken)


def _share_milli(field: Field) -> int | None:
    """Return the thousandths of a GPU that are asked for; None if that is no share.

    They are rounded up, but for shares of which fewer would then go on one GPU than really do:
    three times "0.3333" fit. Such a share counts as up to a thousandth too little beside others.
    """
    try:
        milli = units.parse(str(field.value)) * units.WHOLE_MILLI
    except ValueError:
        return None
    if not 0 < milli < units.WHOLE_MILLI:
        return None
    up = math.ceil(milli)
    if up == 1:
        return up
    most, down = units.WHOLE_MILLI // milli, up - 1
    return down if units.WHOLE_MILLI // up < most == units.WHOLE_MILLI // down else up
