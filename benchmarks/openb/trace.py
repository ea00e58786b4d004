"""Reading the openb lists, with the file, row and column in every complaint."""

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from bayplan.cluster.units import WHOLE_MILLI
from bayplan.codec import DecodeError
from bayplan.online.kinds import Kind
from bayplan.online.scorer import NodeRoom

DATA: Final = Path(__file__).parent.parent / "data" / "openb"
NODES: Final = "openb_node_list_gpu_node"
POD_LIST: Final = "openb_pod_list_"

#: Largest amount that is believed: a node of a thousand cores, a petabyte of memory in MiB.
_MOST: Final = 1 << 30

#: Most GPUs of a node or a pod.
_MOST_GPUS: Final = 16

#: The published allocation in % of the cluster, when 100 % and 130 % of it have arrived.
_PUBLISHED: Final = "analysis_allo_discrete"


class Unallocated(NamedTuple):
    """Share of the GPUs that nobody has, in %, when that many % of the cluster has arrived."""

    at_100: float
    at_130: float


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a list, which knows where it stands."""

    where: str
    cells: dict[str, str]

    def text(self, column: str) -> str:
        """Return a cell; an absent column is empty."""
        return (self.cells.get(column) or "").strip()

    def number(self, column: str, *, least: int = 0, most: int = _MOST) -> int:
        """Return a cell that holds a whole number in a range."""
        text = self.text(column)
        try:
            value = int(text)
        except ValueError as error:
            problem = f"should be a whole number, is {text!r}"
            raise DecodeError(self.where, column, problem) from error
        if not least <= value <= most:
            raise DecodeError(
                self.where, column, f"should lie between {least} and {most}, is {value}"
            )
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Nodes and pods of one list.

    Attributes:
        nodes: All nodes, empty.
        pods: The kinds of the pods, in the order of the list.
    """

    nodes: tuple[NodeRoom, ...] = field(repr=False)
    pods: tuple[Kind, ...] = field(repr=False)

    @property
    def total_milli(self) -> int:
        """Return the thousandths of a GPU in the cluster."""
        return sum(sum(node.devices) for node in self.nodes)

    @property
    def models(self) -> tuple[str, ...]:
        """Return the GPU models of the cluster."""
        return tuple(sorted({node.model for node in self.nodes}))


def rows(name: str) -> Iterator[Row]:
    """Return the rows of a list of the data set.

    Raises:
        DecodeError: There is no such list.
    """
    path = DATA / f"{name}.csv.gz"
    if not path.exists():
        raise DecodeError(path.name, "", f"no such list; there are {', '.join(lists())}")
    with gzip.open(path, "rt", newline="") as file:
        for number, cells in enumerate(csv.DictReader(file), start=2):
            yield Row(f"{path.name}: row {number}", cells)


def lists() -> tuple[str, ...]:
    """Return the names of the pod lists."""
    paths = DATA.glob(f"{POD_LIST}*.csv.gz")
    return tuple(sorted(path.name.removesuffix(".csv.gz")[len(POD_LIST) :] for path in paths))


def load(name: str) -> Trace:
    """Return the pod list `name` with the nodes.

    Raises:
        DecodeError: There is no such list, or a cell of it cannot be believed.
    """
    nodes = tuple(node(row) for row in rows(NODES))
    return Trace(nodes=nodes, pods=tuple(pod(row) for row in rows(POD_LIST + name)))


def node(row: Row) -> NodeRoom:
    """Return an empty node."""
    return NodeRoom(
        name=row.text("sn"),
        cpu_milli=row.number("cpu_milli"),
        memory_mib=row.number("memory_mib"),
        devices=(WHOLE_MILLI,) * row.number("gpu", most=_MOST_GPUS),
        model=row.text("model"),
    )


def pod(row: Row) -> Kind:
    """Return what a pod asks for."""
    gpus = row.number("num_gpu", most=_MOST_GPUS)
    share = row.number("gpu_milli", least=min(gpus, 1), most=WHOLE_MILLI)
    if gpus > 1 and share < WHOLE_MILLI:
        raise DecodeError(row.where, "gpu_milli", "should be 1000, a share is of one GPU")
    return Kind(
        cpu_milli=row.number("cpu_milli"),
        memory_mib=row.number("memory_mib"),
        gpus=gpus,
        gpu_milli=share if gpus else WHOLE_MILLI,
        models=tuple(sorted({model for model in row.text("gpu_spec").split("|") if model})),
    )


def published(name: str) -> dict[str, Unallocated]:
    """Return what FGD's authors report, by their names of the policies: means of 10 seeds."""
    runs: dict[str, list[Unallocated]] = {}
    for row in rows(_PUBLISHED):
        if row.text("workload") == POD_LIST + name:
            left = Unallocated(100 - float(row.text("100")), 100 - float(row.text("130")))
            runs.setdefault(row.text("sc_policy").partition("-")[2], []).append(left)
    return {
        policy: Unallocated(*(sum(column) / len(found) for column in zip(*found, strict=True)))
        for policy, found in runs.items()
    }
