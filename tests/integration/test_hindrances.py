"""What a cluster puts in the operator's way for one pod: nothing else waits, and somebody is told.

As in `operator_scene`, plans are written and pods are bound by hand.
"""

from bayplan.api import names
from e2e.cluster import eventually
from tests.integration import operator_scene
from tests.integration.hindrances_scene import (
    applied,
    frozen_annotations,
    is_refused,
    webhook_that_is_down,
)
from tests.integration.operator_scene import (
    UNIT_PODS,
    Object,
    User,
    bind,
    chat,
    condition,
    evict,
    hold,
    pool,
    services,
    shapes,
)

nodes, operator, user = operator_scene.nodes, operator_scene.operator, operator_scene.user


def test_a_webhook_that_is_down_for_one_pod_holds_up_no_other(user: User) -> None:
    """The pass would end there each time: no other pod, no status, no word of it."""
    stuck = UNIT_PODS[0]
    with applied(user.cluster, webhook_that_is_down(user.namespace, stuck)):
        user.apply(chat())
        user.await_pods(UNIT_PODS[1:])

        def told() -> str:
            status = user.get("infd", "chat").get("status", {})
            held, _, message = condition(status, "Degraded")
            assert held == "True"
            return message

        message = eventually(told, what="the condition tells it")
        assert message.startswith(
            f"the API server fails to make pod {stuck}: Internal error occurred: failed calling"
            ' webhook "down.example.com"'
        )

    user.await_pods(UNIT_PODS)
    user.await_reason("WaitingForPlan")


def test_a_unit_gives_nothing_up_while_one_of_its_pods_cannot_be_told(
    user: User, nodes: tuple[str, ...]
) -> None:
    """It would go out of service and come back with every pass."""
    pools = [pool("Prefill", gpus=2), pool("Decode", gpus=2)]
    user.apply(chat(pools=pools))
    user.await_pods(UNIT_PODS)
    user.place(dict.fromkeys(UNIT_PODS, nodes[0]))
    user.await_reason("UnitsReady")
    before = services(user)
    stubborn = "chat-0-prefill-0"

    with applied(user.cluster, *frozen_annotations(user.namespace, stubborn)):
        eventually(is_refused(user, stubborn), what="the policy is at work")
        user.apply(chat(pools=pools, ratio={"prefill": 2, "decode": 1}))
        pods = user.await_pods([*UNIT_PODS, "chat-0-prefill-1"])
        user.publish(hold(pods["chat-0-prefill-1"]))

        status = user.await_reason("PodsRefused")

        message = condition(status, "Degraded")[2]
        assert f"changes of the annotations of pod {stubborn}: " in message
        assert "annotations are frozen; let the operator change them, or delete the pod" in message
        serving = {name: pod for name, pod in user.pods().items() if name in UNIT_PODS}
        assert {_since(pod) for pod in serving.values()} == before
        assert len(shapes(user)) == 1

    def gives_up() -> bool:
        return any(reason == "Drains" for reason, _ in map(_since, user.pods().values()))

    eventually(gives_up, what="it goes on when the pod can be told")


def _since(pod: Object) -> tuple[str, str]:
    """Return why a pod is in service or out of it, and since when."""
    said = pod["status"].get("conditions", [])
    ours = [c for c in said if c["type"] == names.CONDITION_IN_SERVICE]
    return (ours[0]["reason"], ours[0]["lastTransitionTime"]) if ours else ("", "")


def test_who_drained_for_a_plan_that_has_ended_serves_again_though_its_spec_is_wrong(
    user: User, nodes: tuple[str, ...]
) -> None:
    """A typing error would keep it out of service until somebody corrects it."""
    patient = {"drainTimeoutSeconds": 600}
    user.apply(chat(disruption=patient))
    user.await_pods(UNIT_PODS)
    user.place(dict.fromkeys(UNIT_PODS, nodes[0]))
    user.await_reason("UnitsReady")
    name = "chat-0-prefill-0"
    user.apply({**chat(), "metadata": {"name": "other"}})
    waiting = eventually(lambda: user.pods().get("other-0-prefill-0"), what="somebody waits")
    assert waiting is not None
    user.publish(bind(waiting, nodes[0]), evict(user.pods()[name]))
    eventually(lambda: _since(user.pods()[name])[0] == "Yields", what="it yields to the plan")

    wrong = [pool("Prefill", gpus="many"), pool("Decode", gpus=2)]
    user.apply(chat(disruption=patient, pools=wrong))
    user.await_reason("InvalidSpec")
    user.publish()

    eventually(lambda: _since(user.pods()[name])[0] == "Serves", what="it is put back")
