"""What is remembered of one pod's parts is never told of another whose parts differ."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayplan.api import names
from bayplan.codec import DecodeError
from bayplan.codec.fields import Field
from bayplan.codec.memo import Memo
from bayplan.codec.pods import placing, requests

Raw = dict[str, Any]


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Raw]:
    """Return objects with some of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


AMOUNTS = st.sampled_from([{}, {"nvidia.com/gpu": "2"}, {"cpu": "1"}, {"cpu": 1}, {"cpu": "x"}])
CONTAINERS = st.lists(
    optional(
        resources=optional(requests=AMOUNTS, limits=AMOUNTS),
        ports=st.lists(optional(hostPort=st.sampled_from([80, 81, "80"])), max_size=1),
        restartPolicy=st.sampled_from(["Always", "Never", 1]),
        name=st.sampled_from(["a", "b"]),
    ),
    max_size=2,
)
TERMS = st.lists(
    st.sampled_from(
        [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]},
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]},
            {"matchExpressions": [{"key": "zone", "operator": "Exists"}]},
        ]
    ),
    max_size=2,
)
APART = st.lists(
    st.sampled_from([{"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}}}]),
    max_size=1,
)
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
SPECS = optional(
    containers=st.one_of(CONTAINERS, st.sampled_from([{}, None, "odd", [None]])),
    initContainers=CONTAINERS,
    overhead=AMOUNTS,
    hostNetwork=st.booleans(),
    nodeSelector=st.sampled_from([{}, {"zone": "a"}, {"zone": "b"}, {1: "a"}, {"1": "a"}]),
    affinity=optional(
        nodeAffinity=st.builds(lambda terms: {REQUIRED: {"nodeSelectorTerms": terms}}, TERMS),
        podAntiAffinity=st.builds(lambda terms: {REQUIRED: terms}, APART),
    ),
    tolerations=st.lists(optional(key=st.sampled_from(["a", "b"])), max_size=2),
)


def outcome(read: Callable[[], object]) -> object:
    """Return what a function reads, or its complaint."""
    try:
        return read()
    except DecodeError as error:
        return str(error)


@given(
    spec=SPECS,
    labels=st.sampled_from([{}, {"app": "x"}, {"app": "y"}]),
    namespace=st.sampled_from(["a", "b"]),
    planned=st.booleans(),
)
def test_memory_reads_as_fresh_eyes_do(
    spec: Raw,
    labels: dict[str, str],
    namespace: str,
    planned: bool,  # noqa: FBT001 - drawn by hypothesis
) -> None:
    """A pod that is taken for another one would get its node, or too little room."""
    field = Field(spec, where="Pod x")
    marks = {"annotations": {names.ANNOTATION_PLAN: "plan"} if planned else {}}
    metadata = Field(marks, where="Pod x")

    def asks() -> object:
        read_anew = placing._constraints  # noqa: SLF001 - what is remembered otherwise
        return placing.pinned_node(field), read_anew(field, labels, namespace, planned=planned)

    def remembered() -> object:
        return placing.placing_of(metadata, field, labels, namespace, gated=False)

    for fresh, known in (
        (partial(requests._requests_of, field, {}), partial(requests.requests, field)),  # noqa: SLF001 - read anew
        (asks, remembered),
    ):
        expected = outcome(fresh)

        assert outcome(known) == expected
        assert outcome(known) == expected  # by now it is remembered, if it can be


def test_the_same_is_read_once_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster has many templates over the years."""
    monkeypatch.setattr("bayplan.codec.memo._MOST", 2)
    seen: list[int] = []
    numbers = Memo[int]()

    def noted(number: int) -> int:
        def read() -> int:
            seen.append(number)
            return number

        return numbers.read((number,), read)

    assert [noted(n) for n in (1, 1, 2, 2, 3, 3, 1)] == [1, 1, 2, 2, 3, 3, 1]
    assert seen == [1, 2, 3, 1]
