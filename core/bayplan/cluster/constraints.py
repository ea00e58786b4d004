"""What a pod asks of the node it comes to, and of the other pods there, besides room."""

from dataclasses import dataclass, field

from bayplan.cluster.keys import ClaimKey


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Taint:
    """A node's mark that keeps away pods which do not tolerate it."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Toleration:
    """A pod's permission to be on a tainted node; an empty key or effect matches all."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Requirement:
    """One line of a node selector: a label or field, an operator, and values."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class NodeTerm:
    """Requirements that must all hold; a pod's terms are alternatives."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Volume:
    """A volume that not every node reaches.

    Attributes:
        claim: Which claim has it.
        nodes: Terms of which one holds for each node that reaches it; with none, no node does.
        problem: Why that cannot be read, with the names of the object and its field; else "".
    """

    claim: ClaimKey
    nodes: tuple[NodeTerm, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PodSelector:
    """Which pods a rule between pods is about.

    Attributes:
        namespaces: Where they are; no namespace means all.
        labels: What must hold of their labels.
        nobody: Whether it selects no pod at all, whatever the rest says.
    """

    namespaces: tuple[str, ...] = ()
    labels: tuple[Requirement, ...] = ()
    nobody: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PodTerm:
    """Pods near which another must or must not be.

    A domain is the set of nodes that share a value of the label `key`.
    """

    key: str
    pods: PodSelector


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Spread:
    """A topology spread constraint that must hold (`DoNotSchedule`).

    Attributes:
        key: The label whose values are the domains.
        pods: The pods that are counted.
        max_skew: By how much the domain a pod comes to may exceed the emptiest one.
        min_domains: With fewer eligible domains the emptiest one counts as empty.
        honours_affinity: Whether only nodes that the pod selects are eligible.
        honours_taints: Whether only nodes whose taints it tolerates are.
    """

    key: str
    pods: PodSelector
    max_skew: int = 1
    min_domains: int = 1
    honours_affinity: bool = True
    honours_taints: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """What a pod asks of the pods around it.

    Attributes:
        repels: Required anti-affinity: no such pod in its domain.
        attracts: Required affinity: at least one such pod in its domain, for each term.
        spreads: How evenly it must be spread.
    """

    repels: tuple[PodTerm, ...] = ()
    attracts: tuple[PodTerm, ...] = ()
    spreads: tuple[Spread, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Preference:
    """Nodes on which a pod would rather be, with a weight of 1 to 100."""

    weight: int
    term: NodeTerm


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What a pod asks of a node besides room. No terms mean no node affinity.

    `volumes` has, for each of its volumes that not every node reaches, the terms of which one must
    hold; `unreadable` says why it is not known where one is, if so; `barred` why no node is to be
    asked for at all, if so; `refused` why none of the nodes `refused_at` is, of none if that is
    empty, for kube-scheduler has refused it there; `peers` is None for the many pods that ask
    nothing of other pods.
    """

    node_selector: tuple[tuple[str, str], ...] = ()
    affinity: tuple[NodeTerm, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    prefers: tuple[Preference, ...] = ()
    volumes: tuple[tuple[NodeTerm, ...], ...] = field(default=(), repr=False)
    unreadable: str = field(default="", repr=False)
    barred: str = field(default="", repr=False)
    refused: str = field(default="", repr=False)
    refused_at: tuple[str, ...] = field(default=(), repr=False)
    peers: Peers | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GangTopology:
    """Where the pods of a gang should be with respect to each other.

    Attributes:
        required: Label of whose values they must all share one; "" for none.
        preferred: Labels of which they had better share a value, the dearest first.
    """

    required: str = ""
    preferred: tuple[str, ...] = ()
