"""Pods that are moved by starting their replacement first: of such a pair exactly one counts.

    old serves, new starts   ──▶ the old one counts, the new one stands aside
    new serves               ──▶ the new one counts, the old one stands aside, and is to go
    new is gone              ──▶ there is no pair: the old one is a replica like any other
    old is gone              ──▶ there is no pair: the new one is

A plan begins it, and nothing else remembers it: the replacement is another replica of the same pool
and unit, which says whom it replaces. So a pair outlives its plan and every process.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from bayplan.inference.children import Child


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A pod that is moved, `old`, and the one that starts in its place, `new`."""

    old: Child
    new: Child

    @property
    def relieved(self) -> bool:
        """Whether the new one serves, so that the old one is to go."""
        return self.new.takes_requests

    @property
    def aside(self) -> Child:
        """The one that does not count."""
        return self.old if self.relieved else self.new


def pairs_of(pods: Iterable[Child]) -> tuple[Pair, ...]:
    """Return the pairs among the pods of one unit; a pod is in one pair at most."""
    there = {pod.uid: pod for pod in pods if not pod.terminating}
    found: dict[str, Pair] = {}
    for new in sorted(there.values(), key=lambda pod: (pod.created_at, pod.name)):
        old = there.get(new.replaces) if new.serves_by else None
        if old is not None and not {old.uid, new.uid} & found.keys() and _alike(old, new):
            found[old.uid] = found[new.uid] = Pair(old=old, new=new)
    return tuple(dict.fromkeys(found.values()))


def _alike(old: Child, new: Child) -> bool:
    """Return whether one can stand for the other."""
    same = (old.pool, old.revision) == (new.pool, new.revision) and old.replica != new.replica
    return same and not old.ended and old.node is not None
