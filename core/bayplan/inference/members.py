"""What a pod must know to find the others of its replica, where a replica has several pods.

The words are those of LeaderWorkerSet, so that engines and scripts written for it run unchanged:
the leader's address, how many there are, and which of them this one is. Pod and host names follow
it too: the workers of the leader `chat-0-decode-0` are `chat-0-decode-0-1`, `chat-0-decode-0-2`,
in one subdomain.
"""

from collections.abc import Mapping
from typing import Any, Final

LEADER_ADDRESS: Final = "LWS_LEADER_ADDRESS"
GROUP_SIZE: Final = "LWS_GROUP_SIZE"
WORKER_INDEX: Final = "LWS_WORKER_INDEX"

#: The variables that we set, which a template therefore must not.
VARIABLES: Final = (LEADER_ADDRESS, GROUP_SIZE, WORKER_INDEX)


def name_of(leader: str, worker: int) -> str:
    """Return the name of a pod of the replica that is named after its leader."""
    return f"{leader}-{worker}" if worker else leader


def leader_of(name: str, worker: int) -> str:
    """Return the name of the leader of a pod's replica: the inverse of `name_of`."""
    return name.removesuffix(f"-{worker}") if worker else name


def joined(
    spec: Mapping[str, Any], *, leader: str, worker: int, size: int, domain: str
) -> dict[str, Any]:
    """Return a pod's spec with host name and environment for its replica.

    `domain` is the headless Service with its namespace: "chat-peers.team". The variables come
    first, so that those of the template can refer to them.
    """
    service, _, _ = domain.partition(".")
    said = {
        LEADER_ADDRESS: f"{leader}.{domain}",
        GROUP_SIZE: str(size),
        WORKER_INDEX: str(worker),
    }
    env = [{"name": name, "value": value} for name, value in said.items()]
    containers = {
        kind: [{**each, "env": [*env, *(each.get("env") or [])]} for each in spec[kind]]
        for kind in ("initContainers", "containers")
        if spec.get(kind)
    }
    return {**spec, **containers, "hostname": name_of(leader, worker), "subdomain": service}
