"""Amounts of what a node has and pods ask for, in the integer units of `bayplan.cluster.units`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bayplan.cluster import shares, units


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Resources:
    """Amounts by resource name, e.g. cpu in millicores, memory in MiB, GPUs as a count.

    `items` is sorted by name and holds no zero, so that equal amounts are equal values.
    """

    items: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, amounts: Mapping[str, int]) -> "Resources":
        """Return the amounts as a value; zeros are dropped."""
        return cls(tuple(sorted((name, n) for name, n in amounts.items() if n)))

    def __getitem__(self, name: str) -> int:
        for key, n in self.items:
            if key == name:
                return n
        return 0

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.items)

    def __add__(self, other: "Resources") -> "Resources":
        return self._combined(other, sign=1)

    def __sub__(self, other: "Resources") -> "Resources":
        return self._combined(other, sign=-1)

    @property
    def gpus(self) -> int:
        """The whole GPUs among the amounts, of whatever vendor."""
        return sum(n for name, n in self.items if units.is_gpu(name))

    def fits(self, room: "Resources") -> bool:
        """Return whether every amount is there in `room`."""
        have = dict(room.items)
        enough = all(
            # The name is looked at only where the amount alone does not answer.
            n <= have.get(name, 0) or n <= have.get(name, 0) + units.implied(name)
            for name, n in self.items
        )
        if not enough or not shares.concerned(self.items, room.items):
            return enough
        return shares.fit(self.items, room.items)

    def shortfall(self, room: "Resources") -> "Resources":
        """Return what has to come free in `room` for these amounts; empty when they fit.

        Of an over-full node that is also what it holds too much.
        """
        have = dict(room.items)
        short = {
            name: n - there
            for name, n in self.items
            if n > (there := have.get(name, 0)) and n > (there := there + units.implied(name))
        }
        if shares.concerned(self.items, room.items):
            short = {name: n for name, n in short.items() if not units.is_part(name)}
            short |= shares.short_of(self.items, room.items)
        return Resources.of(short)

    @property
    def share_milli(self) -> int:
        """The thousandths of one GPU that are asked for; 0 unless it is a share."""
        return shares.asked(self.items)

    @property
    def device(self) -> int | None:
        """The number of the GPU that the share is on, where it is known."""
        return shares.number(self.items)

    def on_device(self, device: int | None) -> "Resources":
        """Return the same with the share on the GPU of that number, or on any with None."""
        milli = shares.asked(self.items)
        if not milli:
            return self
        rest = {
            name: n for name, n in self.items if not (units.is_share(name) or units.is_part(name))
        }
        share = {units.share(milli): 1} if device is None else {units.part(device): milli}
        return Resources.of(rest | share)

    def _combined(self, other: "Resources", *, sign: int) -> "Resources":
        amounts = dict(self.items)
        for name, n in other.items:
            amounts[name] = amounts.get(name, 0) + sign * n
        return Resources.of(amounts)
