"""What becomes of the main job where planner and webhook are not there at all."""

from collections.abc import Sequence

from e2e import story, test_story
from e2e.cluster import Cluster, eventually
from e2e.stack import install
from e2e.test_story import BOUND_S, assert_no_node_is_over_full, condition_of

nodes, empty = test_story.nodes, test_story.empty


def test_without_the_extender_the_default_algorithm_places_pods_and_a_condition_says_so(
    cluster: Cluster, empty: Sequence[str], namespace: str
) -> None:
    """Fail open: nothing waits for ever on a planner or webhook that are not there."""
    values = ["policy.gateTimeoutSeconds=20"]
    with install(cluster, programs=("operator", "scheduler"), values=values):
        story.apply(cluster, story.CHAT, namespace=namespace)
        eventually(
            lambda: [p.phase for p in story.chat_pods(cluster, namespace)] == ["Running"] * 6,
            what="all six pods run on empty nodes without any plan",
            timeout_s=BOUND_S,
        )

        def told() -> bool:
            condition = condition_of(cluster, namespace, "Scheduled")
            assert condition["reason"] == "PlacedWithoutPlan", condition
            return "6 of them placed by the default algorithm" in condition["message"]

        eventually(told, what="the condition says who placed them")
    assert_no_node_is_over_full(cluster, empty)
