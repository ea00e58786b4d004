"""Values of a plan, made one by one and many at once."""

import pytest

from bayplan.cluster.keys import GangKey, NodeName, PodKey
from bayplan.plan import Bind, in_bulk

KEYS = [PodKey("default", name) for name in "ab"]


def test_many_actions_are_those_that_calls_make() -> None:
    """The plan of a fleet would say something else than that of three nodes."""
    gang = GangKey("default", "g")

    made = in_bulk(
        Bind,
        pod=KEYS,
        uid="ab",
        node=[NodeName("n0"), NodeName("n1")],
        gang=[None, gang],
        priority=[0, 7],
        device=[None, 1],
    )

    assert made == (
        Bind(pod=KEYS[0], uid="a", node=NodeName("n0")),
        Bind(pod=KEYS[1], uid="b", node=NodeName("n1"), gang=gang, priority=7, device=1),
    )
    assert list(map(hash, made)) == [hash(each) for each in made]
    assert repr(made[0]) == repr(Bind(pod=KEYS[0], uid="a", node=NodeName("n0")))


def test_no_action_is_left_half_made() -> None:
    """It would break wherever the missing attribute is read first."""
    with pytest.raises(TypeError, match="Bind has"):
        in_bulk(Bind, pod=KEYS, uid="ab")
    with pytest.raises(ValueError, match="shorter than"):
        in_bulk(Bind, pod=KEYS, uid="a", node="ab", gang="ab", priority="ab", device="ab")
