"""The pools of an InferenceDeployment: how many replicas of what, made from which templates.

What the API server's rules refuse is refused here, too, for files have not been there; and what
they cannot see, deep in a template, is refused here alone. Running pods are left as they are.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from bayplan.api import names
from bayplan.api.pod_template import OUR_ANNOTATIONS, OUR_LABELS
from bayplan.api.pools import MAX_HOST_NAMES, MAX_SERVICE_NAMES, MAX_UNIT, Role
from bayplan.api.ratio import RatioMode
from bayplan.cluster.resources import Resources
from bayplan.codec.fields import Field
from bayplan.codec.pods.requests import check_share, requests
from bayplan.inference import accelerators, members
from bayplan.inference.deployments import PEERS, Pool, Port

#: Most replicas of one role in one unit, and most pods of one replica.
_MAX_COUNT: Final = 256
_MAX_SIZE: Final = 64

#: What a label of a node may say.
_LABEL_VALUE: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

#: The ports that there are.
_PORTS: Final = range(1, 65_536)


def pools_of(spec: Field, *, deployment: str) -> tuple[Pool, ...]:
    """Return the pools of the deployment of that name, in their order.

    Raises:
        DecodeError: A field cannot be read, a template cannot become a pod that is placed, or it
            sets what is the operator's.
    """
    listed = tuple(spec.get("pools").items())
    counts = _role_counts(spec.get("ratio"))
    pools = tuple(_pool(field, counts) for field in listed)
    bounds = _role_bounds(spec.get("ratio"), counts, pools)
    pools = tuple(replace(pool, bounds=bounds.get(pool.role)) for pool in pools)
    for field, pool in zip(listed, pools, strict=True):
        _check_name(field.get("name"), pool, pools, deployment)
    for role, n in counts.items():
        of_role = [pool.count for pool in pools if pool.role is role]
        if of_role and sum(of_role) != n:
            raise spec.get("pools").error(
                f"the replicas of the {role} pools add up to {sum(of_role)}, spec.ratio."
                f"{role.lower()} is {n}: say replicas in each of them, or correct the ratio"
            )
    if (size := sum(pool.pods for pool in pools)) > MAX_UNIT:
        raise spec.get("pools").error(
            f"a unit would have {size} pods, {MAX_UNIT} at most: lower spec.ratio or podsPerReplica"
        )
    return pools


def _role_counts(ratio: Field) -> dict[Role, int]:
    """Return how many replicas of a role a unit has."""
    counts = {
        Role.PREFILL: ratio.get("prefill").integer(1),
        Role.DECODE: ratio.get("decode").integer(1),
    }
    for role, n in counts.items():
        if not 0 <= n <= _MAX_COUNT:
            raise ratio.get(role.lower()).error(f"should be 0 to {_MAX_COUNT}, is {n}")
    return counts


def _role_bounds(
    ratio: Field, counts: Mapping[Role, int], pools: Sequence[Pool]
) -> dict[Role, tuple[int, int]]:
    """Return the least and the most replicas of a role that a unit may have, in mode Auto."""
    mode, field = ratio.get("mode"), ratio.get("bounds")
    auto = mode.value is not None and mode.choice(RatioMode) is RatioMode.AUTO
    said = {role: field.get(role.lower()) for role in counts}
    said = {role: each for role, each in said.items() if each.value is not None}
    if auto != bool(said):
        raise mode.error(
            "Auto and spec.ratio.bounds go together: say the bounds of prefill or decode, or set"
            " it to Fixed and remove the bounds"
        )
    return {role: _bounds(each, role, counts[role], pools) for role, each in said.items()}


def _bounds(field: Field, role: Role, count: int, pools: Sequence[Pool]) -> tuple[int, int]:
    least, most = (_within(field.get(name), None, _MAX_COUNT) for name in ("min", "max"))
    if least > most:
        raise field.error(f"min {least} is above max {most}: lower min or raise max")
    if not least <= count <= most:
        raise field.error(
            f"spec.ratio.{role.lower()} is {count}, not {least} to {most}: change it, or the bounds"
        )
    if sum(pool.role is role for pool in pools) != 1:
        raise field.error(
            f"holds for a single pool of role {role}: remove it, or all of these pools but one"
        )
    return least, most


def _pool(field: Field, counts: Mapping[Role, int]) -> Pool:
    role = _role(field.get("role"))
    size = _within(field.get("podsPerReplica"), 1, _MAX_SIZE)
    count = field.get("replicas")
    template, asked = _template(field.get("template"), size=size)
    pool = Pool(
        name=field.get("name").text(role.lower()),
        role=role,
        count=counts.get(role, 1) if count.value is None else _within(count, 1, _MAX_COUNT),
        template=template,
        requests=asked,
        size=size,
        accelerators=field.get("accelerators").texts(),
        ports=tuple(_ports(field.get("template", "spec"))),
    )
    _check_accelerators(field.get("accelerators"), asked)
    return _with_workers(pool, field.get("workerTemplate"))


def _with_workers(pool: Pool, field: Field) -> Pool:
    if field.value is None:
        return pool
    if pool.size == 1:
        raise field.error(
            "is for replicas of several pods: set podsPerReplica to 2 or more, or remove it"
        )
    template, asked = _template(field, size=pool.size)
    return replace(pool, worker_template=template, worker_requests=asked)


def _within(field: Field, default: int | None, most: int) -> int:
    number = field.integer(default)
    if not 1 <= number <= most:
        raise field.error(f"should be 1 to {most}, is {number}")
    return number


def _role(field: Field) -> Role:
    try:
        return Role(field.text())
    except ValueError as error:
        raise field.error(f"should be one of {', '.join(Role)}, is {field.value!r}") from error


def _template(field: Field, *, size: int) -> tuple[Mapping[str, Any], Resources]:
    """Return a template and what its pod asks for."""
    spec = field.get("spec")
    _check_spec(spec)
    if size > 1:
        _check_member(spec)
    for part, ours in (("labels", OUR_LABELS), ("annotations", OUR_ANNOTATIONS)):
        given = field.get("metadata", part)
        for key in sorted(given.labels().keys() & set(ours)):
            raise given.get(key).error("is set by the operator: remove it")
    asked = requests(spec)
    check_share(field.get("metadata"), asked)
    return field.value if isinstance(field.value, dict) else {}, asked


def _ports(spec: Field) -> Iterator[Port]:
    """Yield the ports of all containers that run as long as the pod."""
    sidecars = (
        each
        for each in spec.get("initContainers").items()
        if each.get("restartPolicy").text("") == "Always"
    )
    for container in (*spec.get("containers").items(), *sidecars):
        for port in container.get("ports").items():
            yield Port(
                number=port_of(port.get("containerPort")),
                name=port.get("name").text(""),
                protocol=port.get("protocol").text("TCP"),
            )


def port_of(field: Field, default: int | None = None) -> int:
    """Return the number of a port; without a default the field is required."""
    port = field.integer(default)
    if port not in _PORTS:
        raise field.error(f"should be a port, 1 to 65535, is {port}")
    return port


def _check_spec(spec: Field) -> None:
    """Refuse what would make a pod that cannot be placed by a plan."""
    if not any(True for _ in spec.get("containers").items()):
        raise spec.get("containers").error("is empty: add the container that serves the model")
    scheduler = spec.get("schedulerName")
    if scheduler.text("") not in {"", names.SCHEDULER}:
        raise scheduler.error(f"is set by the operator: remove it, or say {names.SCHEDULER}")
    node = spec.get("nodeName")
    if node.text(""):
        raise node.error("would bypass the plan: remove it, and use nodeSelector or affinity")
    gates = spec.get("schedulingGates")
    if any(True for _ in gates.items()):
        raise gates.error("are set by the operator: remove them")
    restart = spec.get("restartPolicy")
    if restart.text("Always") != "Always":
        raise restart.error("must be Always, the default: remove it")
    priority = spec.get("priorityClassName")
    if priority.text(""):
        raise priority.error("holds for the whole unit: remove it, and set spec.priorityClassName")


def _check_member(spec: Field) -> None:
    """Refuse what is ours to say to a pod that is one of several of its replica."""
    for key in ("hostname", "subdomain"):
        if spec.get(key).value is not None:
            raise spec.get(key).error(
                "is set by the operator where podsPerReplica is above 1: remove it"
            )
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind).items():
            for variable in container.get("env").items():
                if variable.get("name").text() in members.VARIABLES:
                    raise variable.get("name").error(
                        f"{variable.get('name').value} is set by the operator where podsPerReplica"
                        " is above 1: remove it"
                    )


def _check_accelerators(field: Field, asked: Resources) -> None:
    products = field.texts()
    for product in field.items():
        if not _LABEL_VALUE.fullmatch(product.text()):
            raise product.error(
                f"should be the value of a node's label such as NVIDIA-H100-80GB-HBM3, is"
                f" {product.value!r}"
            )
    if len(set(products)) < len(products):
        raise field.error("names a product twice: remove one of them")
    if products and accelerators.label_for(name for name, _ in asked.items) is None:
        known = " or ".join(accelerators.LABELS)
        raise field.error(
            f"holds for containers that ask for {known}: use nodeSelector or affinity instead"
        )


def _check_name(field: Field, pool: Pool, pools: Sequence[Pool], deployment: str) -> None:
    """Refuse names that Services, hosts or other pods could not have beside it."""
    name = pool.name
    if name == PEERS:
        raise field.error(f"{PEERS!r} names a Service of the operator: choose another name")
    if sum(other.name == name for other in pools) > 1:
        raise field.error(f"{name!r} is the name of two pools: rename one of them")
    most = MAX_HOST_NAMES if pool.size > 1 else MAX_SERVICE_NAMES
    if len(deployment) + len(name) > most:
        raise field.error(
            f"{name!r} is too long: with the name of the deployment it may have {most} characters,"
            f" they have {len(deployment) + len(name)}"
        )
    for other in pools:
        tail = other.name.removeprefix(f"{name}-")
        if pool.size > 1 and tail != other.name and tail.isdecimal():
            raise field.error(
                f"workers of {name!r} would be named like pods of the pool {other.name!r}: rename"
                " one of them"
            )
