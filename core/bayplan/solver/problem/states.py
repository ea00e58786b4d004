"""Node states as counted classes: what a fleet is to the keep-and-fill engine.

Nodes with the same room, the same welcome for every class of pods and the same anchored pods are
one class, of which only the number matters. A keep is what such a node retains: a part of its
anchored pods, from none to all.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bayplan.solver.problem.instance import Counts, Instance, Mask

#: Most keeps of a fleet; beyond it its nodes have too little in common.
MAX_KEEPS: Final = 250_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTypes:
    """What nodes accept, apart from room.

    Attributes:
        of_node: [node] index of its type.
        welcome: [type, class] whether pods of the class may come to it.
        open: [type] whether its free slots count.
    """

    of_node: Counts = field(repr=False)
    welcome: Mask = field(repr=False)
    open: Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class States:
    """The classes of nodes and what each can keep.

    Attributes:
        of_node: [node] index of its class.
        sizes: [class of nodes] number of nodes.
        types: [class of nodes] index of the node type.
        keeps: [keep, identity] anchored pods that stay, by identity.
        owner: [keep] class of nodes it belongs to; ascending.
        residual: [keep, resource] room that is left; negative where a node is over-full.
    """

    of_node: Counts = field(repr=False)
    sizes: Counts = field(repr=False)
    types: Counts = field(repr=False)
    keeps: Counts = field(repr=False)
    owner: Counts = field(repr=False)
    residual: Counts = field(repr=False)


def node_types(instance: Instance) -> NodeTypes:
    """Return the types of the nodes, numbered by their first node."""
    is_open = np.zeros((1, len(instance.nodes)), dtype=np.bool_)
    is_open[0, instance.open_nodes] = True
    rows = np.concatenate([is_open, instance.arrivals])
    of_node, first = numbered(np.packbits(rows, axis=0).T.astype(np.int64))
    return NodeTypes(of_node=of_node, welcome=rows[1:, first].T, open=rows[0, first])


def count_states(
    *, types: Counts, room: Counts, anchored: Counts, requests: Counts
) -> States | None:
    """Return the classes of nodes with their keeps; None when these are too many.

    Args:
        types: [node] index of the node type.
        room: [node, resource] room without anchored pods.
        anchored: [node, identity] pods that stay or leave.
        requests: [identity, resource] what one uses.
    """
    # Columns that lie together in memory are gone through several times as fast.
    of_node, first = numbered(np.vstack([types, room.T, anchored.T]).T)
    parts = _parts(anchored[first])
    if parts is None:
        return None
    owner, keeps = parts
    return States(
        of_node=of_node,
        sizes=np.bincount(of_node, minlength=len(first)).astype(np.int64),
        types=types[first],
        keeps=keeps,
        owner=owner,
        residual=room[first][owner] - keeps @ requests,
    )


def numbered(rows: Counts) -> tuple[Counts, Counts]:
    """Return for each row the number of its value, and each value's first row, in that order."""
    code = np.zeros(len(rows), dtype=np.int64)
    values = 1
    for column in rows.T:
        least = int(column.min(initial=_HUGE))
        span = int(column.max(initial=least)) - least + 1
        if span == 1:
            continue
        digit = column - least
        if values * span > _HUGE:
            # Columns are joined to one number, which is made small again before it is too large.
            (digit, span), (code, values) = _small(digit), _small(code)
        code = code * span + digit
        values *= span
    _, first, number = np.unique(code, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    by_first = np.argsort(first, kind="stable")
    rank[by_first] = np.arange(len(first))
    return rank[number.ravel()], first[by_first].astype(np.int64)


#: No larger numbers are multiplied with each other than make this, so that nothing overflows.
_HUGE: Final = 1 << 62


def _small(codes: Counts) -> tuple[Counts, int]:
    """Return the same with numbers as small as possible, and how many there are."""
    values, number = np.unique(codes, return_inverse=True)
    return number.ravel().astype(np.int64), len(values)


def _parts(anchored: Counts) -> tuple[Counts, Counts] | None:
    """Return every part of each row, with the index of its row; less of the first comes first."""
    choices = anchored + 1
    counts = np.prod(choices.astype(np.float64), axis=1)
    if counts.sum() > MAX_KEEPS:
        return None
    owner = np.repeat(np.arange(len(anchored)), counts.astype(np.int64))
    # A part is a number of which each column is a digit, the last one the fastest.
    worth = np.cumprod(choices[:, ::-1], axis=1)[:, ::-1] // choices
    number = np.arange(len(owner)) - np.searchsorted(owner, owner)
    keeps = np.zeros((anchored.shape[1], len(owner)), dtype=np.int64)
    for kept, digits, worth_of in zip(keeps, choices.T, worth.T, strict=True):
        some = np.flatnonzero(digits[owner] > 1)
        of = owner[some]
        kept[some] = number[some] // worth_of[of] % digits[of]
    return owner, keeps.T
