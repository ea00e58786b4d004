"""Who carries out plans and who keeps deployments write one condition: neither cuts, nor fights."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from bayplan.api import names
from bayplan.inference.drains import NOTICE_S
from bayplan_operator.cluster.kube import pod_path
from tests.fake_kube import Raw
from tests.scenes.drain import CHAT, PATH, PODS, Scene, conditions, key, service_of, waiting_pod

#: Seconds that a drain may take.
DRAIN_S = 60

#: Rounds of everybody in turn after which everything has been settled, and the seconds of each.
ROUNDS = 16
ROUND_S = 10


class World(Scene):
    """The scene, in which nobody may be cut off."""

    def __init__(self, pool: ThreadPoolExecutor, patch: pytest.MonkeyPatch) -> None:
        super().__init__(pool, patch)
        self._sequence = 0
        self.loads = dict.fromkeys(PODS, 1)
        evict, delete = self.kube.create, self.kube.delete

        def create(path: str, body: Raw, *, manager: str = "") -> Raw:
            if path.endswith("/eviction") and "dryRun" not in body["deleteOptions"]:
                self.check(path.removesuffix("/eviction"))
            return evict(path, body, manager=manager)

        def checked(path: str, **how: Any) -> bool:  # noqa: ANN401 - as in FakeKube
            self.check(path)
            return delete(path, **how)

        patch.setattr(self.kube, "create", create)
        patch.setattr(self.kube, "delete", checked)

    def check(self, path: str) -> None:
        """Assert that a pod which is about to go has had the time to finish its requests."""
        pod = self.kube.objects.get(path)
        if pod is None or "nodeName" not in pod["spec"] or "deletionTimestamp" in pod["metadata"]:
            return
        service = service_of(pod)
        assert service["status"] == "False", "it is in service"
        since = datetime.fromisoformat(service["lastTransitionTime"])
        out_s = (self.clock - since).total_seconds()
        busy = self.loads.get(pod["metadata"]["name"], 0) > 0
        assert out_s >= (DRAIN_S if busy else NOTICE_S), "it was not given its time"

    def plan(self, *, evicts: bool) -> None:
        """Publish a newer plan."""
        self._sequence += 1
        if evicts:
            self.make_room(self._sequence)
        else:
            self.publish(sequence=self._sequence)

    def scale(self, replicas: int) -> None:
        """Scale the deployment."""
        known = self.kube.objects[PATH]
        self.kube.add(PATH, {**known, "spec": {**known["spec"], "replicas": replicas}})

    def kubelet(self) -> None:
        """Have pods be as ready as they are in service, and those be gone that are deleted."""
        for name in PODS:
            pod = self.kube.objects.get(pod_path(key(name)))
            if pod is not None and "deletionTimestamp" in pod["metadata"]:
                del self.kube.objects[pod_path(key(name))]
        self.serve()

    def strike(self, what: str, number: int) -> None:
        """Do something that the operator has no say in."""
        pod = PODS[number % 2]
        if what == "requests":
            # Who is out of service gets none.
            raw = self.kube.objects.get(pod_path(key(pod)))
            in_service = raw is not None and any(c["type"] == "Ready" for c in conditions(raw))
            self.loads[pod] = number if in_service and self.in_service_of(pod) else 0
        elif what == "budget":
            path = f"{pod_path(key(pod))}/eviction"
            if self.kube.refusals.pop(path, None) is None:
                self.kube.refusals[path] = (429, "disruption budget")
        elif what == "newcomer":
            path = pod_path(key("new"))
            if self.kube.objects.pop(path, None) is None:
                self.kube.add(path, waiting_pod("new"))
        elif what == "scale":
            self.scale(number % 2)
        elif what == "plan":
            self.plan(evicts=number % 3 > 0)
        else:
            self.clock += timedelta(seconds=number * number)

    def in_service_of(self, name: str) -> bool:
        """Return whether a pod takes requests."""
        service = service_of(self.kube.objects[pod_path(key(name))])
        return bool(service["status"] == "True")

    def round(self) -> None:
        """Let everybody work in turn."""
        self.clock += timedelta(seconds=ROUND_S)
        self.execution.reconcile()
        self.deployments.reconcile(CHAT)
        self.kubelet()

    def service_writes(self) -> int:
        """Return how often somebody was put into service or taken out."""
        return sum(names.MANAGER_SERVICE in write for write in self.kube.writes)


@contextmanager
def worlds() -> Iterator[World]:
    """Return a fresh world."""
    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patch:
        yield World(pool, patch)


OPERATIONS = st.one_of(
    st.sampled_from(["execution", "execution", "deployments", "kubelet", "restart"]).map(
        lambda name: (name, 0)
    ),
    st.tuples(
        st.sampled_from(["requests", "budget", "newcomer", "scale", "plan", "plan", "time"]),
        st.integers(0, 8),
    ),
)


@given(st.lists(OPERATIONS, max_size=30), st.booleans())
def test_nobody_is_cut_off_and_nobody_stays_out_of_service(
    operations: list[tuple[str, int]],
    evicts: bool,  # noqa: FBT001 - drawn
) -> None:
    """Plans come and fail, budgets close, the operator is started anew, in any order."""
    with worlds() as world:
        world.plan(evicts=True)
        for what, number in operations:
            note(f"{what} {number} {world.clock:%H:%M:%S}")
            if what == "restart":
                world.start()
            elif what == "kubelet":
                world.kubelet()
            elif what in {"execution", "deployments"}:
                reconcile = getattr(world, what).reconcile
                reconcile(*([CHAT] if what == "deployments" else []))
            else:
                world.strike(what, number)
        world.scale(1)
        world.kube.refusals.clear()
        if pod_path(key("new")) not in world.kube.objects:
            world.kube.add(pod_path(key("new")), waiting_pod("new"))
        world.plan(evicts=evicts)
        for _ in range(ROUNDS):
            world.round()
        before = world.service_writes()
        world.round()

        assert world.service_writes() == before, "they fight"
        for name in PODS:
            pod = world.kube.objects[pod_path(key(name))]
            assert "nodeName" not in pod["spec"] or not evicts, "the plan never comes to evict"
            if "nodeName" in pod["spec"]:
                assert service_of(pod)["reason"] == "Serves"
