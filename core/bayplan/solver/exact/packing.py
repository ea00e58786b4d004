"""Rows of the CP-SAT model that pack the shares of a node on its GPUs.

GPUs with a number, where a share may stay, have variables of their own. All others are alike: they
are ordered by what is on them, so that the solver does not try one packing in all its orders.
Shares of one size are one, whatever class they are of.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from ortools.sat.python import cp_model

from bayplan.cluster.units import WHOLE_MILLI
from bayplan.solver.exact.variables import Expression, Variables, summed
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.devices import Devices


def add(model: cp_model.CpModel, v: Variables, devices: Devices) -> None:
    """Pack the shares of every node that the model decides on."""
    for n, here in v.by_node.items():
        sharing = [(i, var) for i, var in here if devices.sizes[i]]
        if sharing:
            _Node(model=model, v=v, devices=devices, n=n, here=sharing).add()


class _Packed(NamedTuple):
    """The shares of a node on its GPUs.

    Attributes:
        busy: Numbers of the GPUs on which a share stays.
        numbered: Sizes that come to each of these.
        others: Sizes that come to each other GPU that is taken, the fullest first.
    """

    busy: frozenset[int]
    numbered: dict[int, list[int]]
    others: list[list[int]]

    @classmethod
    def of(cls, devices: Devices, n: int, assignment: Assignment) -> "_Packed":
        """Return how the shares of an assignment are packed on node `n`."""
        layout = devices.layout(n, assignment.final[:, n])
        contents: dict[int, list[int]] = defaultdict(list)
        for size, number in zip(layout.come, layout.numbers(layout.come), strict=True):
            contents[number].append(size)
        others = [each for number, each in contents.items() if number not in layout.stay]
        return cls(
            busy=frozenset(layout.stay),
            numbered={number: contents[number] for number in layout.stay},
            others=sorted(others, key=lambda sizes: (-sum(sizes), sizes)),
        )


@dataclass(slots=True, kw_only=True)
class _Node:
    """The GPUs of one node.

    Attributes:
        model: The model.
        v: Its variables.
        devices: What shares need.
        n: The node.
        here: Shares that may be on it: class and number of pods.
        held: Terms whose sum is the GPUs that shares hold.
        on: The variables that count shares of a size, over all GPUs.
    """

    model: cp_model.CpModel
    v: Variables
    devices: Devices
    n: int
    here: list[tuple[int, cp_model.IntVar]]
    held: list[Expression] = field(default_factory=list)
    on: dict[int, list[cp_model.IntVar]] = field(default_factory=lambda: defaultdict(list))
    _last: tuple[Assignment, _Packed] | None = None

    def add(self) -> None:
        """Give every share that comes a GPU with room for it."""
        came: dict[int, list[Expression]] = defaultdict(list)
        stay: dict[int, list[tuple[int, cp_model.IntVar]]] = defaultdict(list)
        for i, final in self.here:
            size, number = int(self.devices.sizes[i]), int(self.devices.numbers[i])
            kept = self.v.kept.get((i, self.n))
            if kept is None:
                came[size].append(final)
            elif number < 0:
                self.held.append(kept)
            else:
                stay[number].append((size, kept))
            if kept is not None and kept is not final:
                came[size].append(final - kept)
                self._stays_first(i, final, kept)
        fixed = self.devices.fixed.get(self.n, {})
        for number in sorted(stay.keys() | fixed.keys()):
            self._numbered(number, fixed.get(number, 0), stay.get(number, []), sorted(came))
        if came:
            self._others(sorted(came))
        for size, terms in came.items():
            self.model.add(summed(self.on[size]) == summed(terms))
        self.v.held[self.n] = summed(self.held)
        if self._open:
            self._leave_whole()

    @property
    def _open(self) -> bool:
        """Whether somebody may come to its GPUs; else who stays may be too much for them."""
        return bool(self.v.instance.arrivals[self.devices.asked, self.n].any())

    def _stays_first(self, index: int, final: cp_model.IntVar, kept: cp_model.IntVar) -> None:
        """Let shares come only beside those of their class that stay: none changes its GPU here."""
        now = int(self.v.instance.running[index, self.n])
        full = self._var(
            f"full_{index}_{self.n}", 1, lambda at: int(at.final[index, self.n] >= now)
        )
        self.model.add(kept >= now * full)
        self.model.add(final - kept <= int(self.v.instance.upper[index, self.n]) * full)

    def _numbered(
        self, number: int, fixed: int, stay: list[tuple[int, cp_model.IntVar]], sizes: list[int]
    ) -> None:
        """Add a GPU on which something is now."""
        most = WHOLE_MILLI
        if not self._open:
            there = self.devices.layout(self.n, self.v.instance.running[:, self.n])
            most = max(most, there.stay[number])
        busy = summed([]) + 1
        load = [size * kept for size, kept in stay]
        came = [self._share(size, number) for size in sizes]
        load += [size * variable for size, variable in zip(sizes, came, strict=True)]
        if not fixed:
            busy = self._var(
                f"busy_{self.n}_{number}", 1, lambda at: int(number in self._packed(at).busy)
            )
            self.held.append(busy)
        self.model.add(summed(load) + fixed <= most * busy)

    def _others(self, sizes: list[int]) -> None:
        """Add the GPUs that nobody shares now, as many as can be of use."""
        instance = self.v.instance
        most = sum(int(instance.upper[i, self.n]) for i, _ in self.here)
        before: Expression | None = None
        for k in range(min(most, int(instance.room[self.n, self.devices.column]))):
            opened = self._var(f"open_{self.n}_{k}", 1, partial(self._has, k))
            self.held.append(opened)
            load = summed([size * self._share(size, -1 - k) for size in sizes])
            self.model.add(load <= WHOLE_MILLI * opened)
            if before is not None:
                self.model.add(load <= before)
            before = load

    def _share(self, size: int, at: int) -> cp_model.IntVar:
        """Return the number of shares of a size that come to a GPU.

        `at` is the number of the GPU; of those that nobody shares now, -1 is the fullest.
        """
        variable = self._var(
            f"shares_{self.n}_{at}_{size}",
            WHOLE_MILLI // size,
            lambda assignment: self._content(assignment, at).count(size),
        )
        self.on[size].append(variable)
        return variable

    def _content(self, assignment: Assignment, at: int) -> list[int]:
        packed = self._packed(assignment)
        if at >= 0:
            return packed.numbered.get(at, [])
        return packed.others[-1 - at] if self._has(-1 - at, assignment) else []

    def _has(self, k: int, assignment: Assignment) -> bool:
        return k < len(self._packed(assignment).others)

    def _packed(self, assignment: Assignment) -> _Packed:
        """Return the packing of an assignment; every variable asks for the same one in turn."""
        if self._last is None or self._last[0] is not assignment:
            self._last = (assignment, _Packed.of(self.devices, self.n, assignment))
        return self._last[1]

    def _leave_whole(self) -> None:
        """Keep GPUs with a share from those who ask for whole ones."""
        column, here = self.devices.column, self.v.by_node[self.n]
        asks = [int(self.v.instance.requests[i, column]) for i, _ in here]
        whole = summed([var for _, var in here], asks)
        self.model.add(whole + self.v.held[self.n] <= int(self.v.fixed.capacity[self.n, column]))

    def _var(self, name: str, most: int, value: Callable[[Assignment], int]) -> cp_model.IntVar:
        variable = self.model.new_int_var(0, most, name)
        self.v.further.append((variable, value))
        return variable
