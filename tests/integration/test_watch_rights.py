"""The right to watch is taken away from an operator that runs, on a real API server."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cluster import Cluster, eventually
from e2e.stack import Stack, answer_of
from tests.integration import operator_scene

operator = operator_scene.operator

ROLE = "clusterrole/bayplan-operator"

#: What is watched by kopf, and beside it.
WATCHED = frozenset({"packingplans", "nodes", "pods"})


@pytest.fixture
def role(cluster: Cluster, operator: Stack) -> Iterator[dict[str, Any]]:
    """Return the operator's role; it is as before in the end."""
    if not operator.health:
        pytest.skip("its probes are answered inside the cluster")
    found: dict[str, Any] = json.loads(cluster.kubectl_run("get", ROLE, "-o", "json"))
    del found["metadata"]["resourceVersion"]
    yield found
    replace(cluster, found)


def replace(cluster: Cluster, role: dict[str, Any]) -> None:
    """Have the operator have these rights."""
    cluster.kubectl_run("replace", "-f", "-", input=json.dumps(role))


def ready(stack: Stack) -> tuple[int, str]:
    """Return what the operator says of itself."""
    return answer_of(f"{stack.health['operator']}/readyz")


def test_the_right_to_watch_is_missed(
    cluster: Cluster, operator: Stack, role: dict[str, Any]
) -> None:
    """It was ready, and took up no plan any more: a watch asks for ever."""
    eventually(lambda: ready(operator)[0] == 200, what="it is ready")
    less = json.loads(json.dumps(role))
    for rule in less["rules"]:
        if WATCHED.intersection(rule["resources"]):
            rule["verbs"] = [verb for verb in rule["verbs"] if verb != "watch"]
    replace(cluster, less)

    def noticed() -> bool:
        code, text = ready(operator)
        assert code == 503, text
        missed = set(re.findall("watch of ([a-z]+): [^;]*cannot watch resource", text))
        assert missed == WATCHED, text
        return True

    eventually(noticed, what="it is noticed")

    replace(cluster, role)
    eventually(lambda: ready(operator) == (200, "ok\n"), what="it is ready again")
