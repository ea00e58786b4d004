"""The dispatcher: which events ask for a look, and how soon."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, cast

import pytest
from kubernetes.client.exceptions import ApiException

from bayplan.plan import Plan
from bayplan_operator.cluster.nodes import Nodes
from bayplan_operator.cluster.nodewatch import EveryNode
from bayplan_operator.deployments.podwatch import Change
from bayplan_operator.dispatcher import Asked, Dispatcher
from bayplan_operator.keys import GATES, PLANS, DeploymentKey, Key
from bayplan_operator.metrics import Metrics
from tests.fake_kube import FakeKube, Raw, error
from tests.scenes.dispatcher import dispatcher_of
from tests.scenes.execution import raw_node
from tests.scenes.steps import bind, hold, plan

CHAT = DeploymentKey(namespace="ns", name="chat")


class Noted:
    """A queue that does nothing with the keys it is given."""

    def __init__(self) -> None:
        self.added: list[Key] = []
        self.rested: list[Key] = []
        self.within_s: dict[Key, float] = {}

    def add(self, key: Key, *, after_s: float = 0.0, rests: bool = True) -> None:
        """Take a key."""
        if not rests:
            self.rested.append(key)
        self.added.append(key)
        self.within_s[key] = after_s


class Moving:
    """Says whether the plan at work moves pods, and plans may leave gangs half."""

    def __init__(self) -> None:
        self.moves = False
        self.torn = False
        self.progress = ("", "")
        self.newest: tuple[Plan, ...] | None = ()

    def may_leave_partial(self, name: str) -> bool:
        """Return what it was told."""
        return self.torn and bool(name)

    def awaits_replacements(self) -> bool:
        """Return what it was told."""
        return self.moves

    def newest_known(self) -> tuple[Plan, ...] | None:
        """Return what it was told."""
        return self.newest

    def progress_known(self) -> tuple[str, str]:
        """Return what it was told."""
        return self.progress

    def see(self, raw: dict[str, Any]) -> bool:
        """Return whether the object is news, if it says so; take the plan that is in it, if any."""
        self.newest = raw.get("parts", self.newest)
        return bool(raw.get("news", True))


@pytest.fixture
def noted() -> Noted:
    """Return a queue that only notes."""
    return Noted()


@pytest.fixture
def plans() -> Moving:
    """Return plans of which none moves a pod."""
    return Moving()


@pytest.fixture
def dispatcher(noted: Noted, plans: Moving) -> Dispatcher:
    """Return a dispatcher whose workers are never called."""
    with ThreadPoolExecutor(1) as threads:
        made = dispatcher_of(threads, plans=plans)
    made._queue = cast(Any, noted)  # noqa: SLF001 - where the events end
    return made


def asked(*, uid: str = "uid", generation: int = 1, deleted: bool = False) -> Asked:
    """Return what is asked of a deployment."""
    return Asked(uid=uid, generation=generation, deleted=deleted)


def test_the_echo_of_a_status_asks_for_no_look(dispatcher: Dispatcher, noted: Noted) -> None:
    """Each write of ours would cost three reads to find that nothing has changed."""
    dispatcher.deployment_changed(CHAT, asked())
    dispatcher.deployment_changed(CHAT, asked())

    assert noted.added == [CHAT]


@pytest.mark.parametrize("now", [asked(generation=2), asked(uid="2"), asked(deleted=True)])
def test_what_is_asked_now_is_looked_at(dispatcher: Dispatcher, noted: Noted, now: Asked) -> None:
    """A new spec, or another deployment of the same name, would wait for the regular look."""
    dispatcher.deployment_changed(CHAT, asked())

    dispatcher.deployment_changed(CHAT, now)

    assert noted.added == [CHAT, CHAT]


def test_a_deployment_made_again_is_looked_at(dispatcher: Dispatcher, noted: Noted) -> None:
    """It may look as the one before did."""
    dispatcher.deployment_changed(CHAT, asked())
    dispatcher.deployment_deleted(CHAT, "uid")

    dispatcher.deployment_changed(CHAT, asked())

    assert noted.added == [CHAT, CHAT]


def test_late_news_of_a_namesake_forgets_nobody(dispatcher: Dispatcher, noted: Noted) -> None:
    """Deleted and made again at once, it would be looked at only every half minute."""
    dispatcher.deployment_changed(CHAT, asked(uid="new"))
    dispatcher.deployment_changed(CHAT, asked(uid="old", deleted=True))
    dispatcher.deployment_deleted(CHAT, "old")
    noted.added.clear()

    dispatcher.deployment_changed(CHAT, asked(uid="new"))
    dispatcher.pod_changed(CHAT, Change.CAME)

    assert noted.added == [CHAT, PLANS], "what it asked was known, and whose the pod is"


def test_who_is_gone_is_forgotten(dispatcher: Dispatcher, noted: Noted) -> None:
    """Every deployment that ever was would be looked at for ever."""
    dispatcher.deployment_changed(CHAT, asked())
    dispatcher.deployment_deleted(CHAT, "uid")
    dispatcher.deployment_deleted(CHAT, "never seen")
    noted.added.clear()

    dispatcher.pod_changed(CHAT, Change.CAME)

    assert noted.added == [PLANS]


def test_a_pod_asks_for_a_look_at_its_owner_and_the_plan(
    dispatcher: Dispatcher, noted: Noted
) -> None:
    """One that went changes what is to be done; one that is bound only what is told."""
    dispatcher.deployment_changed(CHAT, asked())
    dispatcher.pod_changed(CHAT, Change.OTHER)
    later = dict(noted.within_s)

    dispatcher.pod_changed(CHAT, Change.WENT)

    assert noted.added == [CHAT, CHAT, PLANS, CHAT, PLANS]
    assert noted.within_s[CHAT] < later[CHAT]
    assert noted.within_s[PLANS] < later[PLANS]


def test_the_last_pod_that_a_plan_waits_for_is_urgent_for_the_plan_alone(
    dispatcher: Dispatcher, noted: Noted
) -> None:
    """A plan that is done would stay at work; its pods get ready one after the other as ever."""
    dispatcher.deployment_changed(CHAT, asked())

    dispatcher.pod_changed(CHAT, Change.LAST)
    last = dict(noted.within_s)
    dispatcher.pod_changed(CHAT, Change.OTHER)
    other = dict(noted.within_s)

    assert last[PLANS] < other[PLANS]
    assert last[CHAT] == other[CHAT]


def test_a_pod_of_nobody_we_know_asks_for_a_look_at_the_plan_alone(
    dispatcher: Dispatcher, noted: Noted
) -> None:
    """Anybody can put the label on a pod."""
    dispatcher.pod_changed(CHAT, Change.CAME)
    dispatcher.pod_changed(None, Change.CAME)

    assert noted.added == [PLANS, PLANS]


def test_a_new_pod_is_urgent_for_the_plan_only_if_it_moves_pods(
    dispatcher: Dispatcher, noted: Noted, plans: Moving
) -> None:
    """In a burst each look at a plan that has nothing for the new pods is made in vain."""
    dispatcher.pod_changed(None, Change.CAME)
    in_vain_s = noted.within_s[PLANS]
    plans.moves = True

    dispatcher.pod_changed(None, Change.CAME)

    assert noted.within_s[PLANS] < in_vain_s


def test_a_new_plan_is_taken_up_without_rest(dispatcher: Dispatcher, noted: Noted) -> None:
    """The operator would stand still for as long as it took to carry out the plan before."""
    dispatcher.pod_changed(None, Change.WENT)
    assert noted.rested == []

    dispatcher.plan_changed({"metadata": {"name": "plan-00002"}})

    assert noted.rested == [PLANS]


def test_a_plan_has_those_looked_at_on_whose_pods_it_or_the_one_before_decides(
    dispatcher: Dispatcher, noted: Noted, plans: Moving
) -> None:
    """A thousand deployments were looked at for each of its phases, and the API server asked."""
    keys = {name: DeploymentKey(namespace="default", name=name) for name in ("a", "a-b", "c", "d")}
    for key in keys.values():
        dispatcher.deployment_changed(key, asked())
    plans.newest = (plan(bind("c-0-decode-0", "n1")),)
    noted.added.clear()

    news = (plan(hold("a-b-0-prefill-0")), plan(bind("foreign", "n1")))
    dispatcher.plan_changed({"metadata": {"name": "plan-00002"}, "parts": news})

    assert set(noted.added) == {PLANS, keys["a"], keys["a-b"], keys["c"]}


def test_a_plan_that_is_taken_up_has_those_looked_at_on_whose_pods_it_decides(
    dispatcher: Dispatcher, noted: Noted, plans: Moving
) -> None:
    """Seen: for up to half a minute they said that it is about to be carried out."""
    dispatcher.deployment_changed(CHAT, asked())
    dispatcher.deployment_changed(DeploymentKey(namespace="default", name="c"), asked())
    plans.newest = (plan(bind("c-0-decode-0", "n1")),)
    echo = {"metadata": {"name": "plan-00002"}, "news": False}
    dispatcher.plan_changed(echo)
    noted.added.clear()

    plans.progress = ("plan-00002", "0 of 1 steps done")
    dispatcher.plan_changed(echo)
    dispatcher.plan_changed(echo)

    assert noted.added == [DeploymentKey(namespace="default", name="c")], "once"
    assert noted.within_s[noted.added[0]] <= 1.0


@pytest.mark.parametrize(("pods", "looks"), [(50, 1), (51, 0)], ids=["few", "many"])
def test_a_plan_that_gets_further_has_those_looked_at_whom_it_places_if_they_are_few(
    dispatcher: Dispatcher, noted: Noted, plans: Moving, pods: int, looks: int
) -> None:
    """They told for up to half a minute of a step that was done, or not of one that hangs."""
    for name in ("c", "held"):
        dispatcher.deployment_changed(DeploymentKey(namespace="default", name=name), asked())
    binds = [bind(f"c-0-decode-{number}", "n1") for number in range(pods)]
    plans.newest = (plan(*binds, hold("held-0-decode-0")),)
    echo = {"metadata": {"name": "plan-00002"}, "news": False}
    plans.progress = ("plan-00002", "0 of 1 steps done")
    dispatcher.plan_changed(echo)
    noted.added.clear()

    plans.progress = ("plan-00002", "0 of 1 steps done: ns/v has hung since 12:00:00 UTC")
    dispatcher.plan_changed(echo)

    assert noted.added == [DeploymentKey(namespace="default", name="c")] * looks


def test_a_plan_has_all_looked_at_while_it_is_not_known_on_whom_the_last_one_decides(
    dispatcher: Dispatcher, noted: Noted, plans: Moving
) -> None:
    """Nobody would be told that it has no place any more."""
    dispatcher.deployment_changed(CHAT, asked())
    plans.newest = None
    noted.added.clear()

    dispatcher.plan_changed({"metadata": {"name": "plan-00002"}, "parts": ()})

    assert CHAT in noted.added


def test_a_plan_by_which_a_gang_may_be_half_has_halves_looked_at(
    dispatcher: Dispatcher, noted: Noted, plans: Moving
) -> None:
    """They were looked at every ten seconds: a third of the time that a gang may be half."""
    dispatcher.plan_changed({"metadata": {"name": "plan-00001"}})
    assert GATES not in noted.added
    plans.torn = True

    dispatcher.plan_changed({"metadata": {"name": "plan-00002"}})

    assert noted.within_s[GATES] <= 1.0


class Stumbling:
    """A pass that looks for something that is not there."""

    away_s = 0.0

    def reconcile(self) -> None:
        """Stumble."""
        next(iter(()))


def test_a_pass_that_does_not_find_something_ends() -> None:
    """It was awaited for ever, and nobody looked at plans or gates any more."""
    with ThreadPoolExecutor(1) as threads:
        stumbles = Stumbling()
        made = dispatcher_of(threads, execution=stumbles, gates=stumbles, metrics=Metrics())
        work = made._work  # noqa: SLF001 - what the queue calls

        async def within(seconds: float) -> None:
            await asyncio.wait_for(work(PLANS), seconds)

        with pytest.raises(RuntimeError, match="not there"):
            asyncio.run(within(20))


class Passes:
    """Passes that succeed, or are refused."""

    away_s = 0.0

    def __init__(self) -> None:
        self.refused = False

    def reconcile(self) -> None:
        """Do nothing, unless that is forbidden."""
        if self.refused:
            raise error(403, 'cannot get resource "leases"')


def test_a_node_in_trouble_has_pins_looked_at(noted: Noted) -> None:
    """What is pinned there was asked for again and again until the regular look."""
    with ThreadPoolExecutor(1) as threads:
        dispatcher = dispatcher_of(threads)
    dispatcher._queue = cast(Any, noted)  # noqa: SLF001 - where the events end

    nodes = EveryNode(Nodes(FakeKube()))

    def see(node: Raw) -> None:
        nodes.see({"type": "MODIFIED", "object": node}, lambda _: dispatcher.nodes_changed())

    see(raw_node("n1"))
    assert GATES not in noted.added
    see({**raw_node("n1"), "spec": {"unschedulable": True}})

    assert noted.within_s[GATES] <= 1


def test_it_is_ready_while_plans_and_gates_can_be_looked_at() -> None:
    """A rollout went on over an operator that may not do its work, with its probes all green."""
    plans, gates, said = Passes(), Passes(), []
    with ThreadPoolExecutor(1) as threads:
        dispatcher = dispatcher_of(threads, execution=plans, gates=gates, metrics=Metrics())

        async def look(key: Key) -> None:
            with suppress(ApiException):
                await dispatcher._work(key)  # noqa: SLF001 - what the queue calls
            said.append(dispatcher.unready())

        said.append(dispatcher.unready())
        for key, refused in ((PLANS, False), (GATES, True), (GATES, False), (GATES, True)):
            gates.refused = refused
            asyncio.run(look(key))

    refusal = 'gates: cannot get resource "leases"'
    assert said == [
        "plans: not looked at yet; gates: not looked at yet",
        "gates: not looked at yet",
        refusal,
        "",
        refusal,
    ]
