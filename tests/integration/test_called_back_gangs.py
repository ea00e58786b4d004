"""A gang of which one pod is refused in earnest, though not in the rehearsal, ends whole or waits.

As in `operator_scene`, plans are written and pods are bound by hand.
"""

from dataclasses import replace

from bayplan.api import names
from bayplan.cluster.keys import GangKey
from bayplan.plan import Bind
from e2e.cluster import eventually
from tests.integration import operator_scene
from tests.integration.hindrances_scene import applied, is_refused, shut_gate
from tests.integration.operator_scene import Object, User, bind, gates, hold, pod_spec, running, uid

nodes, operator, user = operator_scene.nodes, operator_scene.operator, operator_scene.user

#: Seconds: fifteen until a partial gang is called back, and the machine's.
_CALLED_BACK_S = 120.0


def gang() -> Object:
    """Return somebody's Deployment of two 2-GPU pods that are only of use together."""
    labels = {names.LABEL_GANG: "pair", names.LABEL_GANG_MIN_COUNT: "2"}
    template = {
        "metadata": {"labels": labels},
        "spec": {**pod_spec(2), "schedulerName": names.SCHEDULER},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "pair"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }


def paired(made: Bind) -> Bind:
    """Return the bind as one of the gang."""
    return replace(made, gang=GangKey(namespace=made.pod.namespace, name="pair"))


def two(user: User) -> dict[str, Object]:
    """Return the pods once there are two that stay."""
    found = user.pods()
    assert len(found) == 2
    assert not any(p["metadata"].get("deletionTimestamp") for p in found.values())
    return found


def test_a_partial_gang_comes_back_behind_its_gates_and_goes_whole_later(
    user: User, nodes: tuple[str, ...]
) -> None:
    """One pod held its GPUs alone, for ever, while the other one was refused."""
    user.apply(gang())
    pods = eventually(lambda: two(user), what="both pods are there")
    goes, stays = sorted(pods)
    with applied(user.cluster, *shut_gate(user.namespace, stays)):
        eventually(is_refused(user, stays), what="the policy is at work")
        plan = user.publish(*(paired(bind(pods[name], nodes[0])) for name in (goes, stays)))
        user.bind(user.await_pinned(goes)[goes])
        eventually(lambda: running(user.pods()[goes]), what="one of them runs")
        status = user.await_phase(plan, "Failed")
        assert "the gate stays shut" in status["message"]

        user.publish(hold(pods[stays]))

        def all_wait() -> bool:
            found = two(user)
            assert uid(pods[goes]) not in map(uid, found.values())
            return all(map(gates, found.values()))

        eventually(all_wait, what="the gang waits whole", timeout_s=_CALLED_BACK_S)

    pods = user.pods()
    user.publish(*(paired(bind(pod, nodes[0])) for pod in pods.values()))
    for pod in user.await_pinned(*pods).values():
        user.bind(pod)
    eventually(lambda: all(map(running, user.pods().values())), what="the gang runs whole")
