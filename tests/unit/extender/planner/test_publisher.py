"""Plan objects are created under the next number, and old ones cleared away."""

from dataclasses import replace
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from structlog.testing import capture_logs

from bayplan.cluster.keys import GangKey, NodeName, PodKey
from bayplan.codec import PublishedPlan, parts
from bayplan.codec.recalls import Recall
from bayplan.plan import Bind, Certificate, Plan, Result, Verdict
from bayplan.policy import Order
from bayplan_extender.planner.publisher import HISTORY, HISTORY_OBJECTS, Dropped, Publisher

PLAN = Plan(certificate=Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL))
RESULT = Result(plan=PLAN, digest="d", engine="greedy")


class Plans:
    """The plans in an API server, by name; stands in for the client."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.most = 1000
        self.lost = ""
        self.leads = True

    def create_cluster_custom_object(self, *about: Any, **_: object) -> None:  # noqa: ANN401 - JSON
        """Keep a plan, unless its name is taken."""
        name = about[-1]["metadata"]["name"]
        if name in self.names:
            raise ApiException(status=409, reason="AlreadyExists")
        if len(self.names) >= self.most:
            raise ApiException(status=507, reason="etcd is full")
        self.names.append(name)
        if name == self.lost:
            raise ApiException(status=504, reason="Timeout")

    def delete_cluster_custom_object(self, *about: str, **_: object) -> None:
        """Remove one."""
        if about[-1] not in self.names:
            raise ApiException(status=404, reason="NotFound")
        self.names.remove(about[-1])


def publisher(plans: Plans, monkeypatch: pytest.MonkeyPatch) -> Publisher:
    """Return a publisher that writes to `plans`."""
    monkeypatch.setattr(client, "CustomObjectsApi", lambda _: plans)
    return Publisher(client.ApiClient(), leads=lambda: plans.leads)


def readable(sequence: int, phase: str = "Completed") -> PublishedPlan:
    """Return a plan as the view shows it."""
    name = f"plan-{sequence:05d}"
    return PublishedPlan(name=name, uid=name, sequence=sequence, plan=PLAN, phase=phase)


def test_a_plan_has_the_number_that_it_was_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator would carry out an older one."""
    plans = Plans("plan-00001", "plan-00002")

    assert publisher(plans, monkeypatch).publish(RESULT, sequence=3) == "plan-00003"
    assert plans.names[2:] == ["plan-00003"]


def test_a_plan_whose_number_somebody_has_taken_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was written under a higher one, and so overtook the next leader's from an older look."""
    plans = Plans("plan-00001", "plan-00002")

    with pytest.raises(Dropped, match="plan-00002"):
        publisher(plans, monkeypatch).publish(RESULT, sequence=2)

    assert plans.names == ["plan-00001", "plan-00002"]


def test_who_leads_no_longer_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stopped only after the plan it was at."""
    plans = Plans("plan-00001")
    plans.leads = False

    with pytest.raises(Dropped, match="lease"):
        publisher(plans, monkeypatch).publish(RESULT, sequence=2)

    assert plans.names == ["plan-00001"]


def test_who_stops_leading_between_two_parts_takes_the_first_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its plan would be completed when the next leader is at work already."""
    monkeypatch.setattr(parts, "MAX_ACTIONS", 1)
    plans = Plans("plan-00001")
    written = publisher(plans, monkeypatch)
    create = plans.create_cluster_custom_object

    def losing(*about: Any, **rest: object) -> None:  # noqa: ANN401 - JSON
        create(*about, **rest)
        plans.leads = False

    monkeypatch.setattr(plans, "create_cluster_custom_object", losing)
    with pytest.raises(Dropped):
        written.publish(large(), sequence=2)

    assert plans.names == ["plan-00001"]


def test_who_leads_no_longer_deletes_nothing_that_may_be_the_next_leaders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is not answered may not have arrived, and its number be taken by now."""
    plans = Plans()
    written = publisher(plans, monkeypatch)

    def unanswered(*about: Any, **_: object) -> None:  # noqa: ANN401 - JSON
        plans.names.append(about[-1]["metadata"]["name"])  # the next leader's
        plans.leads = False
        raise ApiException(status=504, reason="Timeout")

    monkeypatch.setattr(plans, "create_cluster_custom_object", unanswered)
    with pytest.raises(ApiException):
        written.publish(RESULT, sequence=1)

    assert plans.names == ["plan-00001"]


@pytest.mark.parametrize("phase", ["Completed", "Pending"])
def test_only_the_newest_plans_are_kept(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would fill etcd, without an operator to end them at any rate."""
    seen = [readable(n, phase) for n in range(1, HISTORY + 6)]
    plans = Plans(*(plan.name for plan in seen))

    publisher(plans, monkeypatch).clear_away(reversed(seen))

    assert plans.names == [plan.name for plan in seen[5:]]


def test_the_plan_that_tells_which_gangs_were_called_back_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They would all start anew after a few minutes of other plans."""
    seen = [readable(n) for n in range(1, HISTORY + 6)]
    gang = GangKey(namespace="d", name="g")
    told = Recall(group=gang, pod="a", message="", nodes=(), revisions=(), times=1, at=0)
    for index in (1, 2):
        seen[index] = replace(seen[index], recalled=(told,))
    plans = Plans(*(plan.name for plan in seen))

    publisher(plans, monkeypatch).clear_away(seen)

    assert plans.names == [seen[2].name, *(plan.name for plan in seen[5:])]


def test_a_few_plans_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could ask what happened."""
    seen = [readable(n) for n in range(1, HISTORY + 1)]
    plans = Plans(*(plan.name for plan in seen))

    publisher(plans, monkeypatch).clear_away(seen)

    assert len(plans.names) == HISTORY


def test_old_plans_that_stay_make_no_failed_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pass counted as failed though its plan was there, and gates were lifted in the end."""
    seen = [readable(n) for n in range(1, HISTORY + 3)]
    plans = Plans(*(plan.name for plan in seen))

    def refuse(*_: str, **__: object) -> None:
        raise ApiException(status=403, reason="Forbidden")

    plans.delete_cluster_custom_object = refuse  # type: ignore[method-assign]
    with capture_logs() as events:
        publisher(plans, monkeypatch).clear_away(seen)

    assert [event["event"] for event in events] == ["plans_not_cleared_away"]


def large() -> Result:
    """Return a plan of three actions."""
    binds = tuple(Bind(pod=PodKey("d", n), uid=n, node=NodeName("n1")) for n in "abc")
    plan = Plan(certificate=PLAN.certificate, binds=binds)
    return Result(plan=plan, digest="d", engine="greedy")


def test_a_large_plan_is_written_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that nobody reads would pile up while the planner tries again."""
    monkeypatch.setattr(parts, "MAX_ACTIONS", 1)
    plans = Plans("plan-00001")

    assert publisher(plans, monkeypatch).publish(large(), sequence=2) == "plan-00002"
    written = ["plan-00002", "plan-00002-part-2", "plan-00002-part-3"]
    assert plans.names == ["plan-00001", *written]

    plans.most = 6
    with pytest.raises(ApiException):
        publisher(plans, monkeypatch).publish(large(), sequence=3)
    assert plans.names == ["plan-00001", *written]


def test_a_part_is_withdrawn_although_nobody_said_that_it_was_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would make a whole of the parts that are written next."""
    monkeypatch.setattr(parts, "MAX_ACTIONS", 1)
    plans = Plans("plan-00001")
    plans.lost = "plan-00002-part-3"

    with pytest.raises(ApiException):
        publisher(plans, monkeypatch).publish(large(), sequence=2)

    assert plans.names == ["plan-00001"]


def test_a_plan_of_which_a_part_has_a_name_that_is_taken_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Parts of two plans would be read as one."""
    monkeypatch.setattr(parts, "MAX_ACTIONS", 1)
    plans = Plans("plan-00001", "plan-00002-part-3")

    with pytest.raises(Dropped):
        publisher(plans, monkeypatch).publish(large(), sequence=2)
    assert plans.names == ["plan-00001", "plan-00002-part-3"]


def test_history_counts_plans_and_goes_with_all_their_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One large plan would push out all others, or leave parts of itself behind."""
    few = [*part_of(1, 3), *(readable(n) for n in range(2, HISTORY + 2))]
    many = [*part_of(1, 8), *part_of(2, HISTORY_OBJECTS - 8), *part_of(3, 8), *part_of(4, 1)]
    huge = [readable(1), *part_of(2, HISTORY_OBJECTS + 1)]
    for seen, gone in ((few, {1}), (many, {1, 2}), (huge, {1})):
        plans = Plans(*(plan.name for plan in seen))

        publisher(plans, monkeypatch).clear_away(seen)

        assert plans.names == [plan.name for plan in seen if plan.sequence not in gone]


def part_of(sequence: int, parts: int) -> list[PublishedPlan]:
    """Return the objects of a large plan."""
    names = [f"plan-{sequence:05d}-part-{n}" for n in range(1, parts + 1)]
    return [
        PublishedPlan(name=name, uid=name, sequence=sequence, plan=PLAN, part=n, parts=parts)
        for n, name in enumerate(names, start=1)
    ]
