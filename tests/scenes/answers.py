"""A webhook that has seen a cluster, and is asked about one pod."""

from bayplan import answers
from bayplan.answers import Answer, Reservations
from bayplan.cache import Cache
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.online.advisor import Advisor
from bayplan.plan import Bind, Certificate, Plan, Reason, Verdict
from bayplan.policy import Order

CERTIFICATE = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)
N1, N2, N3 = NodeName("n1"), NodeName("n2"), NodeName("n3")


def cache_of(*things: Node | Pod) -> Cache:
    """Return a cache that has seen these."""
    cache = Cache()
    for thing in things:
        if isinstance(thing, Node):
            cache.set_node(thing)
        else:
            cache.set_pod(thing)
    return cache


def answer(asked: Pod, names: list[NodeName], cache: Cache, reservations: Reservations) -> Answer:
    """Return the answer with the ranking that the webhook uses."""
    return answers.answer(asked, names, cache, reservations, Advisor(cache))


def planned(waiting: Pod, on: NodeName) -> Reservations:
    """Return what a plan reserves that gives `waiting` the node `on`."""
    bind = Bind(pod=waiting.key, uid=waiting.uid, node=on)
    return Reservations(Plan(certificate=CERTIFICATE, binds=(bind,)))


def reasons(reply: Answer) -> dict[str, Reason]:
    """Return why each refused node was refused."""
    return {name: why.reason for name, why in reply.refused}
