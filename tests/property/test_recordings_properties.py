"""A recorded pass comes back as it was; what is no recording is refused in words."""

import copy
import json
from contextlib import suppress
from random import Random
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from bayplan.cluster.constraints import Constraints, NodeTerm, Requirement, Taint, Toleration
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import DecodeError, Recording, recording_document, recording_of
from bayplan.plan import plan_digest
from bayplan.planner import plan
from bayplan.policy import Policy
from tests.builders import node, pod
from tests.property.plans import frozen, made, policies, snapshots

#: What somebody may have written into a file by hand.
NONSENSE: Final[tuple[Any, ...]] = (
    None,
    -1,
    2**80,
    1.5,
    float("nan"),
    True,
    "",
    "8Gi",
    [],
    {},
    [[1, 2, 3]],
    {"x": 1},
)


def recorded(snapshot: Snapshot, policy: Policy) -> Recording:
    """Return a pass on record."""
    result = made(snapshot, policy)
    return Recording(
        snapshot=snapshot,
        policy=policy,
        seed=0,
        digest=result.digest,
        plan_digest=plan_digest(result.plan),
    )


@given(snapshot=snapshots(), policy=policies())
def test_a_replayed_pass_makes_the_same_plan(snapshot: Snapshot, policy: Policy) -> None:
    """A decision could not be looked at again after the fact."""
    before = recorded(snapshot, policy)

    read = recording_of(json.loads(json.dumps(recording_document(before))))
    again = plan(read.snapshot, read.policy, clock=frozen, seed=read.seed)

    assert read == before
    assert read.snapshot.digest == before.digest
    assert plan_digest(again.plan) == before.plan_digest


def test_everything_a_pod_and_a_node_can_say_is_recorded() -> None:
    """A constraint that the recording forgot would make another plan."""
    asks = Constraints(
        node_selector=(("zone", "a"),),
        affinity=(NodeTerm(labels=(Requirement(key="zone", operator="In", values=("a", "b")),)),),
        tolerations=(Toleration(key="gpu", operator="Exists"),),
    )
    host = node("n0", labels={"zone": "a"}, taints=(Taint(key="gpu"),), schedulable=False)
    snapshot = Snapshot.of([host], [pod("a", constraints=asks, gang="g", min_count=2, on="n0")])

    before = recorded(snapshot, Policy(max_moves=3))

    assert recording_of(json.loads(json.dumps(recording_document(before)))) == before


@given(snapshot=snapshots(nodes=2, pods=4), seed=st.integers(0, 2**32))
def test_a_spoilt_recording_is_refused_in_words(snapshot: Snapshot, seed: int) -> None:
    """A file that was edited by hand would end in a traceback, or in a plan of nonsense."""
    random = Random(seed)  # noqa: S311 - an example, not a secret
    document = copy.deepcopy(recording_document(recorded(snapshot, Policy(time_limit_s=20.0))))
    holder, key = random.choice(list(_places(document)))
    holder[key] = random.choice(NONSENSE)

    with suppress(DecodeError):
        read = recording_of(document)
        made(read.snapshot, read.policy)


def _places(value: Any) -> Any:  # noqa: ANN401 - JSON is anything
    """Yield every place of a document, as holder and key."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, below in list(pairs):
        yield value, key
        if isinstance(below, dict | list):
            yield from _places(below)
