"""The pods that should exist for an InferenceDeployment: where in which unit, under which name.

    unit u, pool p, replica i            ──▶  pod `<name>-u-p-i`, gated, labelled, owned
    … worker w of a replica of several pods  ──▶  pod `<name>-u-p-i-w`

`rollout` decides which of them to make. What a pod that is made looks like stands in `manifests`.
"""

from collections.abc import Collection
from dataclasses import dataclass

from bayplan.inference import members
from bayplan.inference.deployments import Deployment, Pool
from bayplan.inference.shapes import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A pod that should exist: where in which unit, and under which name.

    Attributes:
        name: Its name.
        unit: The number of its unit.
        index: The number of its replica, in its pool and unit.
        pool: Its pool.
        revision: The revision it is made from.
        unit_size: How many pods of its unit are placed together, those that run included.
        shape: What makes its unit whole.
        worker: Which pod of its replica it is; 0 for the leader.
        represents: Whether it stands for its unit where units are counted.
    """

    name: str
    unit: int
    index: int
    pool: Pool
    revision: str
    unit_size: int
    shape: Shape
    worker: int = 0
    represents: bool = False

    @property
    def leader(self) -> str:
        """The name of its replica's leader, which is the replica's."""
        return members.leader_of(self.name, self.worker)


def slots(deployment: Deployment) -> tuple[Slot, ...]:
    """Return the pods that are made where nothing exists yet, unit by unit."""
    made_from = deployment.revision
    return tuple(
        slot
        for unit in range(deployment.replicas)
        for slot in least_slots(deployment, unit, made_from)
    )


def least_slots(deployment: Deployment, unit: int, made_from: str) -> tuple[Slot, ...]:
    """Return the pods with which one unit begins, in the order of the pools."""
    least = deployment.least
    every = {(pool.name, n) for pool in deployment.pools for n in range(least[pool.name])}
    together = sum(pool.size * least[pool.name] for pool in deployment.pools)
    return slots_of(deployment, unit, made_from, replicas=every, together=together, shape=least)


def slots_of(  # noqa: PLR0913 - what its pods say, each by name
    deployment: Deployment,
    unit: int,
    made_from: str,
    *,
    replicas: Collection[tuple[str, int]],
    together: int,
    shape: Shape,
) -> tuple[Slot, ...]:
    """Return the pods of some replicas of one unit, each given by its pool and number.

    They are made from the newest revision; `together` pods of the unit run in the end, and `shape`
    is what makes it whole.
    """
    return tuple(
        Slot(
            name=members.name_of(f"{deployment.name}-{unit}-{pool.name}-{index}", worker),
            unit=unit,
            index=index,
            pool=pool,
            revision=made_from,
            unit_size=together,
            shape=shape,
            worker=worker,
            represents=pool is deployment.counted and not index and not worker,
        )
        for pool in deployment.pools
        for index in sorted(number for name, number in replicas if name == pool.name)
        for worker in range(pool.size)
    )
