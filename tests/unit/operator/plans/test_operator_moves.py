"""Moves whose replacement starts first, carried out against an API server in memory."""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from bayplan.api import names
from bayplan.cluster.keys import NodeName, Owner
from bayplan.codec import pod_of
from bayplan.plan import Bind, Move
from bayplan.steps import StartPod
from bayplan_operator.claims import Claims
from bayplan_operator.cluster.kube import node_path, pod_path
from bayplan_operator.plans.surges import Surges
from tests.fake_kube import Raw
from tests.scenes.drain import CHAT, PATH, PODS, Scene, conditions, key, node, service_of

OLD, NEW = "chat-0-decode-0", "chat-0-decode-1"

#: Seconds after which a plan has long been given up.
LONG_S = 200


class MoveScene(Scene):
    """The scene, with a second node, to which half of the unit is to move."""

    def __init__(self, pool: Executor, patch: pytest.MonkeyPatch) -> None:
        super().__init__(pool, patch)
        self.kube.add(node_path("n2"), node("n2"))
        self.spoiled = False
        self._create, self.kube.create = self.kube.create, self.create  # type: ignore[method-assign]

    def create(self, path: str, body: Raw, *, manager: str = "") -> Raw:
        """Make an object as the API server does, which says when that was."""
        at = self.clock.strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {**body, "metadata": body["metadata"] | {"creationTimestamp": at}}
        return self._create(path, body, manager=manager)

    def move(self, sequence: int = 1) -> str:
        """Write the plan that moves the decode pod for a pod that needs its room."""
        owner = Owner(kind="InferenceDeployment", namespace="ns", name="chat", uid=self._uid(PATH))
        n1, n2 = NodeName("n1"), NodeName("n2")
        moves = Move(pod=key(OLD), uid=f"uid-{OLD}", source=n1, target=n2, owner=owner, priority=0)
        small = Bind(pod=key("new"), uid="uid-new", node=n1)
        raw = self.kube.objects[pod_path(key("new"))]
        raw["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = 4
        return self.publish(small, moves, sequence=sequence)

    def cluster(self) -> None:
        """Bind what has lost its gate, and let who is being deleted be gone."""
        for path, raw in [*self.kube.objects.items()]:
            if "/pods/" not in path:
                continue
            if raw["metadata"].get("deletionTimestamp"):
                del self.kube.objects[path]
            elif raw["metadata"]["name"] == NEW and not raw["spec"]["schedulingGates"]:
                self.kube.add(path, {**raw, "spec": raw["spec"] | {"nodeName": "n2"}})

    def serve(self) -> None:
        """Have pods be ready, but for a replacement that is spoiled."""
        super().serve()
        there = self.kube.objects.get(pod_path(key(NEW)))
        if there is not None and getattr(self, "spoiled", False):
            kept = [c for c in conditions(there) if c["type"] != "Ready"]
            there["status"] = {"conditions": kept}

    def pod(self, name: str) -> Raw:
        """Return a pod."""
        return self.kube.objects[pod_path(key(name))]

    def there(self) -> list[str]:
        """Return the pods of chat that are not being deleted."""
        raws = (self.kube.objects.get(pod_path(key(name))) for name in (*PODS, NEW))
        live = (raw for raw in raws if raw and "deletionTimestamp" not in raw["metadata"])
        return sorted(raw["metadata"]["name"] for raw in live)

    def step(self, plan: str) -> str:
        """Return how far the move is."""
        steps = self.kube.objects[plan]["status"]["steps"]
        found = next(step for step in steps if step["type"] == "Move")
        return f"{found['state']}: {found['message']}"

    def until_gone(self) -> None:
        """Let everybody act until the old pod has left."""
        for _ in range(12):
            self.look(7)
            self.cluster()

    def _uid(self, path: str) -> str:
        return str(self.kube.objects[path]["metadata"]["uid"])


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[MoveScene]:
    """Return the cluster."""
    with ThreadPoolExecutor(2) as pool:
        yield MoveScene(pool, monkeypatch)


def annotations(raw: Raw) -> dict[str, Any]:
    """Return the annotations of an object."""
    found: dict[str, Any] = raw["metadata"].get("annotations", {})
    return found


def test_a_moved_pod_serves_until_its_replacement_does_and_leaves_then(scene: MoveScene) -> None:
    """A cold start would go by without it."""
    plan = scene.move()

    scene.look()

    assert scene.step(plan) == "Starting: has its replacement start on n2, then leaves n1"
    made = scene.pod(NEW)
    assert annotations(made)[names.ANNOTATION_REPLACES] == f"uid-{OLD}"
    assert annotations(made)[names.ANNOTATION_SERVES_BY] == "2026-05-01T12:10:00Z"
    assert annotations(scene.pod(OLD))[names.ANNOTATION_GIVES_WAY_BY] == "2026-05-01T12:10:00Z"
    assert made["spec"]["schedulingGates"] == []
    seen = pod_of(made)
    assert seen is not None
    assert (seen.node, seen.bound, seen.waiting) == ("n2", False, False)

    scene.cluster()
    scene.look(2)
    assert service_of(scene.pod(OLD))["reason"] == "Serves"
    scene.look(2)
    assert service_of(scene.pod(OLD))["reason"] == "Drains"

    scene.until_gone()
    assert scene.there() == [NEW, "chat-0-prefill-0"]
    assert scene.kube.objects[plan]["status"]["phase"] == "Executing"  # "new" is not bound here
    assert scene.step(plan) == f"Done: in its place {NEW} runs on n2"
    assert scene.pod("new")["spec"]["schedulingGates"] == []


def test_the_replacement_begins_behind_its_gate_and_has_its_place(scene: MoveScene) -> None:
    """An admission policy adds a gate to pods without one; and its room is taken at once."""
    refuse = scene.kube.patch

    def dies(path: str, *_: Any, **__: Any) -> None:  # noqa: ANN401 - whatever is patched
        if path == pod_path(key(NEW)):
            raise KeyboardInterrupt

    scene.kube.patch = dies  # type: ignore[method-assign]
    scene.move()
    with pytest.raises(KeyboardInterrupt):
        scene.look()

    seen = pod_of(scene.pod(NEW))
    assert scene.pod(NEW)["spec"]["schedulingGates"] == [{"name": names.GATE}]
    assert seen is not None
    assert (seen.node, seen.waiting) == ("n2", False)

    scene.kube.patch = refuse  # type: ignore[method-assign]
    scene.start()
    scene.look(1)
    assert scene.pod(NEW)["spec"]["schedulingGates"] == []
    scene.cluster()
    scene.until_gone()
    assert scene.there() == [NEW, "chat-0-prefill-0"]


def test_one_that_died_before_it_made_the_replacement_leaves_no_trace(scene: MoveScene) -> None:
    """The old pod would count as leaving for ever."""
    scene.kube.create, create = (_dies, scene.kube.create)  # type: ignore[method-assign, assignment]
    plan = scene.move()
    with pytest.raises(KeyboardInterrupt):
        scene.execution.reconcile()
    assert names.ANNOTATION_GIVES_WAY_BY in annotations(scene.pod(OLD))

    scene.kube.create = create  # type: ignore[method-assign]
    scene.start()
    del scene.kube.objects[plan]
    scene.deployments.reconcile(CHAT)

    assert names.ANNOTATION_GIVES_WAY_BY not in annotations(scene.pod(OLD))
    assert scene.there() == PODS


def test_a_move_goes_on_although_its_plan_was_overtaken_and_the_operator_is_new(
    scene: MoveScene,
) -> None:
    """Two plans would take turns, at a cold start each."""
    scene.move()
    scene.look()
    scene.cluster()

    scene.publish(Bind(pod=key("new"), uid="uid-new", node=NodeName("n1")), sequence=2)
    scene.start()
    scene.until_gone()

    assert scene.there() == [NEW, "chat-0-prefill-0"]
    assert scene.pod("new")["spec"]["schedulingGates"] == []


def test_a_replacement_that_does_not_come_to_serve_is_removed_and_the_plan_fails(
    scene: MoveScene,
) -> None:
    """The waiting pod would wait for it for ever."""
    scene.spoiled = True
    plan = scene.move()
    scene.look()
    scene.cluster()
    scene.look(LONG_S)
    assert scene.kube.objects[plan]["status"]["phase"] == "Executing"

    scene.look(600)
    scene.look(1)

    status = scene.kube.objects[plan]["status"]
    assert status["phase"] == "Failed"
    assert "on n2 did not come to serve in time" in status["message"]
    assert scene.there() == PODS
    assert service_of(scene.pod(OLD))["reason"] == "Serves"
    assert annotations(scene.pod(OLD)) == {
        **annotations(scene.pod(OLD)),
        names.ANNOTATION_MOVE_FAILED: "plan-00001 2026-05-01T12:13:20Z Late",
    }
    assert names.ANNOTATION_GIVES_WAY_BY not in annotations(scene.pod(OLD))
    assert any("MoveFailed" in note for note in scene.told.notes)


def test_a_replacement_that_crashes_again_and_again_is_removed_long_before_its_time_is_over(
    scene: MoveScene,
) -> None:
    """The plan would be at work for ten minutes, and nobody learn why."""
    scene.spoiled = True
    plan = scene.move()
    scene.look()
    scene.cluster()
    scene.pod(NEW)["status"]["containerStatuses"] = [{"name": "main", "restartCount": 3}]

    scene.look(2)
    scene.look(1)

    status = scene.kube.objects[plan]["status"]
    assert status["phase"] == "Failed"
    assert "on n2 crashes again and again" in status["message"]
    assert scene.there() == PODS
    assert any("crashes again and again" in note for note in scene.told.notes)


def test_none_starts_once_another_one_of_its_plan_was_given_up(
    scene: MoveScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark came between the look and the step: a second pod moved for a plan that failed."""
    start = Surges.start
    given_up = {names.ANNOTATION_MOVE_FAILED: "plan-00001 2026-05-01T12:00:00Z Late"}

    def late(surges: Surges, step: StartPod, plan: str, raw: Raw) -> str | None:
        scene.pod("chat-0-prefill-0")["metadata"].setdefault("annotations", {}).update(given_up)
        return start(surges, step, plan, raw)

    monkeypatch.setattr(Surges, "start", late)
    scene.move()
    scene.look()
    assert scene.there() == PODS
    assert names.ANNOTATION_GIVES_WAY_BY not in annotations(scene.pod(OLD))

    given_up[names.ANNOTATION_MOVE_FAILED] = "plan-00000 2026-05-01T11:00:00Z Late"
    scene.look(1)
    assert NEW in scene.there()  # what failed in an earlier plan keeps nobody


def test_a_pod_of_which_the_server_refuses_a_replacement_leaves_first(scene: MoveScene) -> None:
    """The plan would wait for a quota that nobody raises."""
    scene.kube.refusals[pod_path(key(NEW))] = (403, "exceeded quota")
    plan = scene.move()

    scene.look()
    assert "exceeded quota" in scene.step(plan)
    scene.look(2)

    assert service_of(scene.pod(OLD))["reason"] == "Yields"
    assert names.ANNOTATION_GIVES_WAY_BY not in annotations(scene.pod(OLD))


def test_one_whose_budget_admits_nobody_serves_on_beside_its_replacement(scene: MoveScene) -> None:
    """It would be out of service, and stay."""
    plan = scene.move()
    scene.look()
    scene.cluster()
    scene.kube.refusals[f"{pod_path(key(OLD))}/eviction"] = (429, "Cannot evict pod")

    for _ in range(8):
        scene.look(10)

    assert service_of(scene.pod(OLD))["reason"] == "Serves"
    assert "is to leave n1" in scene.step(plan)
    status = scene.kube.objects[PATH]["status"]
    degraded = next(c for c in status["conditions"] if c["type"] == "Degraded")
    assert "Cannot evict pod" in degraded["message"]

    scene.kube.refusals.clear()
    scene.until_gone()
    assert scene.there() == [NEW, "chat-0-prefill-0"]


def test_a_deployment_that_allows_no_surge_has_its_pods_leave_first(scene: MoveScene) -> None:
    """It would get a pod more than it allows."""
    scene.kube.objects[PATH]["spec"]["rollout"] = {"maxSurge": 0}
    scene.move()

    scene.look()

    assert scene.there() == PODS
    assert service_of(scene.pod(OLD))["reason"] == "Yields"


def test_only_one_works_on_a_deployment_at_a_time() -> None:
    """Both would make the last pod that is allowed."""
    claims = Claims()

    with claims.wait(CHAT), claims.attempt(CHAT) as ours:
        assert not ours
    with claims.attempt(CHAT) as ours, claims.attempt(CHAT) as again:
        assert ours
        assert not again
    with claims.wait(CHAT):
        pass


def _dies(*_: Any, **__: Any) -> None:  # noqa: ANN401 - whatever is made
    raise KeyboardInterrupt


def test_a_replacement_that_somebody_deletes_is_not_made_for_ever(scene: MoveScene) -> None:
    """A descheduler and the plan would take turns, without an end."""
    plan, made = scene.move(), 0
    for _ in range(8):
        scene.look(2)
        if NEW in scene.there() and OLD in scene.there():
            del scene.kube.objects[pod_path(key(NEW))]
            made += 1

    assert made == 1
    assert scene.step(plan).startswith("Started: is leaving n1, by ")
