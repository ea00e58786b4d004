"""A gang of two, of which one pod was released and the other one is refused, or pinned in vain."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from bayplan.api import names
from bayplan.cluster.keys import GangKey
from bayplan.plan import Bind
from bayplan_operator.cluster.kube import pod_path
from tests.scenes.execution import Scene, bind, key, raw_pod, unschedulable

GANG = GangKey(namespace="ns", name="g")
LABELS = {names.LABEL_GANG: "g", names.LABEL_GANG_MIN_COUNT: "2"}


@contextmanager
def half_released() -> Iterator[Scene]:
    """Return a cluster in which one pod of a gang was released, and the other one refused."""
    with ThreadPoolExecutor(2) as pool:
        made = Scene(pool)
        for name in ("g-0", "g-1"):
            raw = raw_pod(name, gpus=8)
            raw["metadata"]["labels"] |= LABELS
            made.kube.add(pod_path(key(name)), raw)
        patch = made.kube.patch

        def admits_rehearsals(
            path: str, body: object, *, rehearse: bool = False, **how: str
        ) -> None:
            refused = path == pod_path(key("g-1")) and not rehearse
            made.kube.refusals = {path: (403, "denied in earnest")} if refused else {}
            patch(path, body, rehearse=rehearse, **how)  # type: ignore[arg-type]

        made.kube.patch = admits_rehearsals  # type: ignore[method-assign]
        made.publish(of_gang(bind("g-0", "n1")), of_gang(bind("g-1", "n2")))
        made.look()
        assert [gated(made, name) for name in ("g-0", "g-1")] == [False, True]
        placed = made.pod("g-0")
        placed["spec"]["nodeName"] = "n1"
        made.kube.refusals = {}
        yield made


def of_gang(made: Bind) -> Bind:
    """Return a bind of a pod of the gang."""
    return replace(made, gang=GANG)


def gated(scene: Scene, name: str) -> bool:
    """Return whether a pod waits behind its gate."""
    return bool(scene.pod(name)["spec"].get("schedulingGates"))


def bound(scene: Scene, name: str, on: str, *, at: str = "2026-05-01T12:00:00Z") -> None:
    """Have a pod be bound; the default is the scene's time."""
    scene.pod(name)["spec"]["nodeName"] = on
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at}
    scene.pod(name)["status"] = {"phase": "Running", "conditions": [scheduled]}


def refuse(scene: Scene, why: str = "no such volume") -> None:
    """Have kube-scheduler say that `g-1` can go nowhere."""
    scene.pod("g-1")["status"] = unschedulable(why)


def pin_the_rest(scene: Scene) -> None:
    """Have one of the gang be bound, and the other one pinned."""
    bound(scene, "g-0", "n1")
    scene.kube.patch = type(scene.kube).patch.__get__(scene.kube)  # type: ignore[method-assign]
    scene.publish(of_gang(bind("g-1", "n2")), sequence=2)
    scene.look()
    assert not gated(scene, "g-1")
