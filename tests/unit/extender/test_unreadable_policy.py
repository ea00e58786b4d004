"""A policy that cannot be read allows nothing that somebody has forbidden."""

from typing import Any

from structlog.testing import capture_logs

from bayplan.policy import RESTRAINED, Order, Policy
from bayplan_extender.sinks import _Policies
from bayplan_extender.view import View
from bayplan_operator.cluster.kube import POLICY
from bayplan_operator.cluster.policies import read_policy
from tests.fake_kube import FakeKube

STRICT = {"maxMoves": 0, "maxEvictions": 0, "order": "ProtectFirst"}
NEWER = STRICT | {"order": "SomethingNewer"}


def raw(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the policy that counts."""
    return {"metadata": {"name": "default"}, "spec": spec}


def allowed(view: View) -> tuple[int, int, Order]:
    """Return what may be done to those who run."""
    return view.policy.max_moves, view.policy.max_evictions, view.policy.order


def test_the_last_one_that_could_be_read_holds() -> None:
    """Nobody was to be moved; a word of a newer version let a hundred go."""
    view = View()
    sink = _Policies(view)
    sink.replace([raw(STRICT | {"maxMoves": 3})])

    with capture_logs() as events:
        sink.change("MODIFIED", raw(NEWER))
        seen = allowed(view)
        sink.replace([raw(NEWER)])

    assert seen == allowed(view) == (3, 0, Order.PROTECT_FIRST)
    assert [(e["event"], e["action"]) for e in events] == [
        ("policy_unreadable", "the last readable one holds")
    ] * 2


def test_without_one_nobody_is_disturbed() -> None:
    """A planner that starts anew remembers nothing."""
    view = View()

    with capture_logs() as events:
        _Policies(view).replace([raw(NEWER)])

    assert allowed(view) == (0, 0, Order.PROTECT_FIRST)
    assert [e["action"] for e in events] == ["nobody is disturbed"]


def test_one_that_is_deleted_is_not_kept() -> None:
    """The defaults hold where there is no policy."""
    view = View()
    sink = _Policies(view)
    sink.replace([raw(STRICT)])

    sink.change("DELETED", raw(NEWER))
    assert view.policy == Policy()

    with capture_logs():
        sink.change("ADDED", raw(NEWER))
    assert view.policy == RESTRAINED


def test_the_operator_goes_one_at_a_time_meanwhile() -> None:
    """It has no plan to make, only to carry out."""
    kube = FakeKube()
    kube.add(POLICY, raw(NEWER))

    with capture_logs():
        assert read_policy(kube) == RESTRAINED
