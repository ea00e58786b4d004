"""Values of a plan, made one by one and many at once."""

import pytest

from bayplan.cluster.keys import GangKey, NodeName, PodKey
from bayplan.plan import Bind, Hold, Reason, Rejection, in_bulk
from tests.builders import pod

KEYS = [PodKey("default", name) for name in "ab"]
HELPS = "; what would help: "


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


@pytest.mark.parametrize(
    ("why", "remedy", "most", "want"),
    [
        pytest.param("a" * 40, "b" * 40, 200, f"{'a' * 40}{HELPS}{'b' * 40}", id="both fit"),
        pytest.param(
            "a" * 200, "b" * 40, 120, f"{'a' * 57} ...{HELPS}{'b' * 40}", id="a long reason"
        ),
        pytest.param(
            "a" * 20, "b" * 200, 120, f"{'a' * 20}{HELPS}{'b' * 77} ...", id="a long remedy"
        ),
        pytest.param(
            "a" * 200, "b" * 200, 120, f"{'a' * 26} ...{HELPS}{'b' * 67} ...", id="both are long"
        ),
    ],
)
def test_what_would_help_is_the_last_that_is_cut(
    why: str, remedy: str, most: int, want: str
) -> None:
    """Where there is little room people would hear what is wrong, and not what to do."""
    rejection = Rejection(reason=Reason.TOO_SMALL, message=why)
    waiting = pod("a")
    hold = Hold(pod=waiting.key, uid=waiting.uid, rejection=rejection, remedy=remedy)

    told = hold.told_within(most)

    assert told == want
    assert len(told) <= most
