"""Two planners that both take themselves for the leader, on a real API server."""

from collections.abc import Iterator

import pytest
from kubernetes import client

from bayplan.cluster.keys import NodeName, PodKey
from bayplan.plan import Bind, Certificate, Plan, Result, Verdict
from bayplan.policy import Order
from bayplan_extender.planner.publisher import Dropped, Publisher
from bayplan_extender.sinks import reflectors
from bayplan_extender.view import View
from e2e.cluster import Cluster, eventually

pytestmark = pytest.mark.usefixtures("served")


@pytest.fixture
def view(api: client.ApiClient, cluster: Cluster) -> Iterator[View]:
    """Return a view that watches plans alone."""
    seen = View()
    watches = reflectors(seen, api)
    (watch,) = [each for each in watches if each.name.endswith("packingplans")]
    watch.start()
    eventually(lambda: "packingplans" not in seen.missing, what="plans are listed")
    yield seen
    watch.stop()
    cluster.kubectl_run("delete", "pplan", "--all")


def binding(name: str) -> Result:
    """Return a plan that places one pod."""
    bind = Bind(pod=PodKey("team", name), uid=f"uid-{name}", node=NodeName("n1"))
    certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)
    return Result(plan=Plan(certificate=certificate, binds=(bind,)), digest="d", engine="hand")


def test_of_two_plans_from_the_same_look_one_is_published(
    cluster: Cluster, api: client.ApiClient, view: View
) -> None:
    """The one that came late was published all the same, under a higher number, and overtook."""
    late, next_leader = (Publisher(api, leads=lambda: True) for _ in range(2))
    looked_at = view.last_number

    name = next_leader.publish(binding("new"), sequence=looked_at + 1)
    with pytest.raises(Dropped, match=name):
        late.publish(binding("stale"), sequence=looked_at + 1)

    assert cluster.kubectl_run("get", "pplan", "-o", "name").split() == [
        f"packingplan.bayplan.dev/{name}"
    ]
    newest = eventually(view.newest_plan, what="the plan is seen")
    assert newest is not None
    assert [bind.pod.name for bind in newest.plan.binds] == ["new"]
    assert view.last_number == looked_at + 1
