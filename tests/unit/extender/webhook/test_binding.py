"""Binding is the same whether it is asked for once or again."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
import urllib3
from kubernetes import client

from bayplan.cluster.keys import NodeName, PodKey
from bayplan_extender.webhook.binding import ApiBinder
from bayplan_extender.webhook.wire import Binding

ASKED = Binding(pod=PodKey("default", "a"), uid="uid-a", node=NodeName("n1"))


@dataclass
class Reply:
    """What the API server answers."""

    status: int
    body: Any
    reason: str = ""

    @property
    def data(self) -> str:
        """Return the body as it comes over the wire."""
        return self.body if isinstance(self.body, str) else json.dumps(self.body)


@dataclass
class Server:
    """An API server with one pod; `loses` its next replies to bindings."""

    node: str = ""
    uid: str = "uid-a"
    loses: bool = False
    reads: bool = True
    asked: list[Any] = field(default_factory=list)

    def create_namespaced_pod_binding(
        self, name: str, namespace: str, body: dict[str, Any], **_: object
    ) -> Reply:
        """Bind once, the pod with this uid."""
        self.asked.append((namespace, name, body))
        if body["metadata"]["uid"] != self.uid:
            return Reply(409, {"message": "the UID in the precondition does not match"})
        if self.node:
            return Reply(409, "no JSON", reason="Conflict")
        self.node = body["target"]["name"]
        if self.loses:
            raise urllib3.exceptions.ReadTimeoutError(None, "", "timed out")  # type: ignore[arg-type]
        return Reply(201, {})

    def read_namespaced_pod(self, *_: object, **__: object) -> Reply:
        """Return the pod."""
        if not self.reads:
            raise urllib3.exceptions.ReadTimeoutError(None, "", "timed out")  # type: ignore[arg-type]
        return Reply(200, {"metadata": {"uid": self.uid}, "spec": {"nodeName": self.node}})


def binder(server: Server, monkeypatch: pytest.MonkeyPatch) -> ApiBinder:
    """Return a binder that talks to `server`."""
    monkeypatch.setattr(client, "CoreV1Api", lambda _: server)
    return ApiBinder(client.ApiClient())


def test_a_pod_is_bound_by_its_uid(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod made again under the same name would go to a node that was chosen for another."""
    server = Server()

    assert binder(server, monkeypatch).bind(ASKED) == ""
    ((namespace, name, body),) = server.asked
    assert (namespace, name, body["metadata"]["uid"]) == ("default", "a", "uid-a")
    assert server.node == "n1"


def test_a_lost_reply_is_a_success_if_the_pod_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler would forget a pod that runs, and try again for ever."""
    server = Server(loses=True)

    assert binder(server, monkeypatch).bind(ASKED) == ""


def test_asking_again_is_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was the reply to the scheduler that was lost."""
    assert binder(Server(node="n1"), monkeypatch).bind(ASKED) == ""


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (Server(node="n2"), "409: Conflict"),
        (Server(uid="another"), "409: the UID in the precondition does not match"),
        (Server(loses=True, reads=False), "timed out"),
    ],
    ids=["it is elsewhere", "it is another pod", "nobody knows"],
)
def test_what_went_wrong_is_told(
    server: Server, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod would count as bound that is not."""
    assert said in binder(server, monkeypatch).bind(ASKED)
