"""Which nodes reach a volume, found without looking at each node.

A disk inside a node has a term of its own that holds for this node alone. Thousands of pods with
such disks would have thousands of nodes looked at for each of them; here nodes are looked up by the
values that terms ask for.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from bayplan.cluster.constraints import NodeTerm, Requirement
from bayplan.cluster.nodes import Node
from bayplan.rules.filters import term_matches


class Reach:
    """Finds nodes by what terms ask of them."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._by_value: dict[str, Mapping[str, Sequence[int]]] = {}
        self._by_name: Mapping[str, Sequence[int]] = {}
        self._found: dict[tuple[NodeTerm, ...], tuple[int, ...]] = {}

    def of(self, terms: tuple[NodeTerm, ...]) -> tuple[int, ...]:
        """Return the indices of the nodes for which one of the terms holds, in order."""
        found = self._found.get(terms)
        if found is None:
            held = {i for term in terms for i in self._candidates(term) if self._holds(term, i)}
            found = self._found[terms] = tuple(sorted(held))
        return found

    def of_all(self, volumes: Sequence[tuple[NodeTerm, ...]]) -> Sequence[int]:
        """Return the indices of the nodes that reach each of the volumes, in order."""
        if not volumes:
            return range(len(self._nodes))
        return sorted(set.intersection(*(set(self.of(terms)) for terms in volumes)))

    def _holds(self, term: NodeTerm, index: int) -> bool:
        node = self._nodes[index]
        return term_matches(term, dict(node.labels), node)

    def _candidates(self, term: NodeTerm) -> Sequence[int]:
        """Return nodes among which all are for which the term holds, as few as one line tells."""
        told = [
            *(self._with_value(each) for each in term.labels if each.operator == "In"),
            *(self._named(each) for each in term.fields if each.operator == "In"),
        ]
        return min(told, key=len, default=range(len(self._nodes)))

    def _with_value(self, asked: Requirement) -> Sequence[int]:
        by_value = self._by_value.get(asked.key)
        if by_value is None:
            pairs = ((i, node.labels) for i, node in enumerate(self._nodes))
            values = ((v, i) for i, labels in pairs for key, v in labels if key == asked.key)
            by_value = self._by_value[asked.key] = _gathered(values)
        return _picked(by_value, asked)

    def _named(self, asked: Requirement) -> Sequence[int]:
        if not self._by_name:
            self._by_name = _gathered((str(node.name), i) for i, node in enumerate(self._nodes))
        return _picked(self._by_name, asked)


def _gathered(pairs: Iterable[tuple[str, int]]) -> Mapping[str, Sequence[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for value, index in pairs:
        found[value].append(index)
    return found


def _picked(by_value: Mapping[str, Sequence[int]], asked: Requirement) -> Sequence[int]:
    return [i for value in dict.fromkeys(asked.values) for i in by_value.get(value, ())]
