"""Units that are needed cost more to disturb than those that are not."""

from dataclasses import replace

from bayplan.api import names
from bayplan.floors import protected
from bayplan.keys import Owner
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.snapshot import MAX_MOVE_COST, Pod, Snapshot
from tests.builders import node, pod


def unit(name: str, index: int, *, floor: int, on: str | None) -> list[Pod]:
    """Return the two 4-GPU pods of a unit of a deployment of priority 0."""
    owner = Owner(kind="InferenceDeployment", namespace="default", name=name, uid=f"uid-{name}")
    return [
        replace(
            pod(
                f"{name}-{index}-{part}",
                gpus=4,
                on=on,
                gang=f"{name}-{index}",
                min_count=2,
                labels={names.LABEL_MIN_UNITS: str(floor)},
            ),
            owner=owner,
        )
        for part in "ab"
    ]


def test_so_many_units_of_each_deployment_as_it_needs_are_dear() -> None:
    """The lowest of those that run whole."""
    pods = [
        *unit("a", 0, floor=1, on=None),
        *unit("a", 1, floor=1, on="n1"),
        *unit("a", 2, floor=1, on="n2"),
        *unit("b", 0, floor=0, on="n3"),
        *unit("c", 0, floor=2, on="n4")[:1],
    ]

    found = protected(Snapshot.of([], pods))

    dear = {pod.key.name for pod in found.pods if pod.move_cost == MAX_MOVE_COST}
    assert dear == {"a-1-a", "a-1-b"}


def test_each_deployment_shrinks_to_what_it_needs_before_any_is_evicted() -> None:
    """Two newcomers take the second unit of both, not both units of one."""
    nodes = [node(f"n{n}", gpus=8) for n in range(4)]
    running = [
        each
        for number, name in enumerate("ab")
        for index in range(2)
        for each in unit(name, index, floor=1, on=f"n{2 * number + index}")
    ]
    newcomers = [replace(pod(f"vip-{n}", gpus=8), priority=1000) for n in range(2)]

    found = plan(
        protected(Snapshot.of(nodes, [*running, *newcomers])), Policy(), clock=lambda: 0.0
    ).plan

    assert {evict.pod.name[:3] for evict in found.evictions} == {"a-1", "b-1"}
    assert len(found.evictions) == 4
