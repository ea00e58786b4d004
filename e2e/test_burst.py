"""A hundred nodes, five hundred pods at once, and programs that die at random.

Whatever happens, a node is never over-full, a gang is never partial for long, no pod is lost
and no plan stays where it is.
"""

import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from e2e import story
from e2e.cluster import Cluster, add_gpu_nodes, eventually, remove_gpu_nodes
from e2e.history import recorded
from e2e.stack import PROGRAMS, Stack, install

Object = dict[str, Any]

_NODES = 100
_GANGS = 20
_GANG_PODS = 4

#: Replicas and GPUs of the single pods: 420 pods on 460 GPUs beside gangs on 320 of the 800.
_SINGLES = {"ones": (380, 1), "twos": (40, 2)}

#: Seconds in which everything must have settled; a plan that stands still ends after 120.
_SETTLED_S = 180.0

#: Seconds for which a gang may be partial, counted from its first binding; and those that it
#: takes until the lease of a scheduler that was killed has lapsed.
_PARTIAL_S = 30.0
_LEASE_S = 15.0

#: Seconds for which programs are killed: `make long` asks for more.
_TURMOIL_S = float(os.environ.get("BAYPLAN_CHAOS_SECONDS", "60"))


@pytest.fixture(scope="module")
def nodes(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    """Lend a hundred 8-GPU nodes."""
    if cluster.flavor != "local":
        pytest.skip(f"a {cluster.flavor} cluster has no {_NODES} nodes to lend")
    story.make_priority_classes(cluster)
    names = add_gpu_nodes(cluster, names=[f"burst-{n:03d}" for n in range(_NODES)])
    yield names
    remove_gpu_nodes(cluster, names=names)


@pytest.fixture(scope="module")
def stack(cluster: Cluster, nodes: Sequence[str]) -> Iterator[Stack]:
    """Run Bayplan, all four programs; gates stay while a planner starts again."""
    assert nodes
    with install(cluster, values=["policy.timeLimitSeconds=3"]) as running:
        yield running
        for program in ("planner", "operator"):
            print(program, running.log(program)[-20_000:])


@dataclass(kw_only=True)
class Watcher:
    """Looks at the cluster again and again, and remembers what must never last.

    Attributes:
        cluster: The cluster.
        nodes: The nodes that are watched.
        namespace: Where the pods are.
    """

    cluster: Cluster
    nodes: Sequence[str]
    namespace: str
    _partial_since: dict[str, float] = field(default_factory=dict)
    _whole: set[str] = field(default_factory=set)
    _binds_from: float = 0.0

    def look(self) -> Mapping[str, Counter[str]]:
        """Return the phases of the pods of each app, once nothing is wrong with them."""
        listed = self.cluster.read("pods")["items"]
        self._assert_not_over_full(listed)
        pods: dict[str, list[Object]] = defaultdict(list)
        for pod in listed:
            mine = pod["metadata"]["namespace"] == self.namespace
            if mine and "deletionTimestamp" not in pod["metadata"]:
                pods[pod["metadata"]["labels"]["app"]].append(pod)
        apps = {app: Counter(map(_phase, found)) for app, found in pods.items()}
        self._assert_whole(apps, {app: _bound_at(found) for app, found in pods.items()})
        return apps

    def lose_scheduler(self) -> None:
        """Count for how long gangs are partial from when somebody can bind the rest again."""
        self._binds_from = time.time() + _LEASE_S
        self._partial_since = {}

    def _assert_not_over_full(self, pods: Sequence[Object]) -> None:
        used: Counter[str] = Counter()
        for pod in pods:
            gpus = story.gpus_of(pod["spec"])
            used[pod["spec"].get("nodeName", "")] += gpus
        full = {node: used[node] for node in self.nodes if used[node] > story.GPUS_PER_NODE}
        if full:
            pytest.fail(f"over-full nodes: {full}")

    def _assert_whole(
        self, apps: Mapping[str, Counter[str]], bound_at: Mapping[str, float]
    ) -> None:
        now = time.time()
        partial = {app for app, phases in apps.items() if _is_partial(app, phases)}
        # One that was whole is partial from when that is seen: its Deployment is being deleted.
        self._whole = (self._whole | {app for app in apps if bound_at[app]} - partial) & apps.keys()
        since = {app: now if app in self._whole else bound_at[app] for app in partial}
        self._partial_since = {
            app: self._partial_since.get(app, max(at, self._binds_from))
            for app, at in since.items()
        }
        late = [app for app, at in self._partial_since.items() if now - at > _PARTIAL_S]
        if late:
            pytest.fail(f"partial gangs: {', '.join(f'{app} {dict(apps[app])}' for app in late)}")


def _bound_at(pods: Iterable[Object]) -> float:
    """Return when the first of the pods got its node, in seconds since the epoch; 0 if none did."""
    told = (c for pod in pods for c in pod["status"].get("conditions", []))
    at = [
        datetime.fromisoformat(c["lastTransitionTime"]).astimezone(UTC).timestamp()
        for c in told
        if (c["type"], c["status"]) == ("PodScheduled", "True")
    ]
    return min(at, default=0.0)


def _is_partial(app: str, phases: Mapping[str, int]) -> bool:
    placed = phases.get("Running", 0) + phases.get("Bound", 0)
    return app.startswith("gang") and 0 < placed < _GANG_PODS


def _phase(pod: Object) -> str:
    if pod["spec"].get("schedulingGates"):
        return "Gated"
    phase = str(pod["status"]["phase"])
    return "Bound" if phase == "Pending" and pod["spec"].get("nodeName") else phase


def _gang(name: str, gpus: int) -> Object:
    return story.deployment(
        name,
        gpus,
        replicas=_GANG_PODS,
        labels={"bayplan.dev/gang": name, "bayplan.dev/gang-min-count": str(_GANG_PODS)},
    )


def _plan_at_work(cluster: Cluster) -> str:
    unfinished = ("Pending", "Executing")
    plans = story.plans(cluster)
    open_ = [p for p in plans if p.get("status", {}).get("phase", "Pending") in unfinished]
    return ", ".join(plan["metadata"]["name"] for plan in open_)


def test_a_burst_is_placed_and_who_is_parked_costs_the_webhook_nothing(
    stack: Stack, nodes: Sequence[str], namespace: str
) -> None:
    """Five hundred pods, twenty gangs among them, arrive at once; one gang more does not fit."""
    cluster = stack.cluster
    watcher = Watcher(cluster=cluster, nodes=nodes, namespace=namespace)
    singles = [story.deployment(n, gpus, replicas=r) for n, (r, gpus) in _SINGLES.items()]
    gangs = [_gang(f"gang-{n:02d}", 4) for n in range(_GANGS)]

    started_at = time.monotonic()
    story.apply(cluster, *gangs, *singles, namespace=namespace)

    def placed() -> bool:
        apps = watcher.look()
        assert sum(phases["Running"] for phases in apps.values()) == 500, apps
        return True

    eventually(placed, what="all pods run", timeout_s=_SETTLED_S, interval_s=1.0)
    took_s = time.monotonic() - started_at
    calls = stack.figure("webhook", "bayplan_extender_request_duration_seconds_count")
    print(f"500 pods of which 80 in 20 gangs ran after {took_s:.1f} s, {calls:.0f} webhook calls")
    assert calls <= 2 * 500

    story.apply(cluster, _gang("gang-parked", 8), namespace=namespace)

    def told() -> bool:
        parked = [p for p in story.pods(cluster, namespace) if "parked" in p.name]
        assert len(parked) == _GANG_PODS
        return all("bayplan.dev/decision" in pod.annotations for pod in parked)

    eventually(told, what="the gang that does not fit is told so", timeout_s=_SETTLED_S)
    # An unrelated pod comes and goes: events at which the scheduler would ask again.
    story.apply(cluster, story.deployment("ones", 1, replicas=379), namespace=namespace)
    eventually(
        lambda: watcher.look()["ones"] == {"Running": 379},
        what="one pod has gone",
        timeout_s=_SETTLED_S,
    )
    more = stack.figure("webhook", "bayplan_extender_request_duration_seconds_count") - calls
    assert more == 0, f"{more} webhook calls for pods that wait behind their gates"
    assert stack.figure("planner", "bayplan_waiting_pods") == _GANG_PODS


def test_programs_that_die_at_random_lose_and_break_nothing(
    stack: Stack, nodes: Sequence[str], namespace: str
) -> None:
    """Each program is killed again and again for a minute while gangs come and go."""
    with recorded(stack.cluster, namespace):
        _let_programs_die(stack, Watcher(cluster=stack.cluster, nodes=nodes, namespace=namespace))


def _let_programs_die(stack: Stack, watcher: Watcher) -> None:
    cluster, namespace = watcher.cluster, watcher.namespace
    chance = random.Random(7)  # noqa: S311 - a test's choices
    replicas = {"ones": 40, "twos": 20}
    alive: set[str] = set()
    for turn in _turns():
        # Some come, some go, one program dies.
        name = f"gang-{turn % 12:02d}"
        if name in alive:
            cluster.kubectl_run("delete", "deployment", name, "-n", namespace)
            alive.remove(name)
        else:
            story.apply(cluster, _gang(name, chance.choice((2, 4, 8))), namespace=namespace)
            alive.add(name)
        replicas = {app: chance.randint(10, 120) for app in replicas}
        changed = [
            story.deployment(app, int(app == "twos") + 1, replicas=n) for app, n in replicas.items()
        ]
        story.apply(cluster, *changed, namespace=namespace)
        program = PROGRAMS[turn % len(PROGRAMS)]
        stack.kill(program)
        if program == "scheduler":
            watcher.lose_scheduler()
        watcher.look()
        stack.start(program)
        watcher.look()

    wanted = replicas | dict.fromkeys(alive, _GANG_PODS)

    def settled() -> bool:
        apps = watcher.look()
        running = {app: phases["Running"] for app, phases in apps.items()}
        assert running == wanted, (apps, _plan_at_work(cluster))
        return True

    eventually(settled, what="every pod runs", timeout_s=_SETTLED_S, interval_s=1.0)
    eventually(lambda: not _plan_at_work(cluster), what="no plan is stuck", timeout_s=_SETTLED_S)


def _turns() -> Iterator[int]:
    """Count until the time for turmoil is over."""
    ends_at = time.monotonic() + _TURMOIL_S
    turn = 0
    while time.monotonic() < ends_at:
        yield turn
        turn += 1
