"""The operator's edges: how it connects, what it is started with, how errors read."""

import json
from pathlib import Path
from typing import Any, cast

import kopf
import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from bayplan_operator import __main__ as program
from bayplan_operator import connection
from bayplan_operator.handlers import settings
from bayplan_operator.kube import message_of


def kubeconfig(folder: Path, **user: str) -> Path:
    """Write a kubeconfig."""
    path = folder / "config"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    return path


def test_kopf_and_our_client_log_in_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them on another cluster would be a riddle."""
    path = kubeconfig(tmp_path, token="secret")  # noqa: S106 - nobody's
    monkeypatch.setenv("KUBECONFIG", str(path))

    found = connection.configuration()
    login = connection.kopf_login(found)

    assert (login.server, login.scheme, login.token) == (found.host, "Bearer", "secret")
    assert found.host == "https://127.0.0.1:1"


def test_kopf_logs_in_by_certificate_where_there_is_no_token() -> None:
    """As kind's kubeconfig does."""
    found = client.Configuration(host="https://h", ssl_ca_cert="/ca")
    found.cert_file, found.key_file = "/cert", "/key"

    login = connection.kopf_login(found)

    assert (login.ca_path, login.certificate_path, login.private_key_path) == (
        "/ca",
        "/cert",
        "/key",
    )
    assert login.token is None


def test_kopf_remembers_nothing_of_objects_and_writes_nothing_to_them() -> None:
    """It would copy every object several times, and annotate those of users."""
    assert not settings().posting.enabled
    persistence, body, patch = settings().persistence, kopf.Body({"spec": {"a": 1}}), kopf.Patch()
    progress, record = persistence.progress_storage, cast(kopf.ProgressRecord, {"retries": 1})
    essence = persistence.diffbase_storage.build(body=body)

    persistence.diffbase_storage.store(body=body, patch=patch, essence=essence)
    progress.store(key=cast(Any, "handler"), record=record, body=body, patch=patch)
    progress.touch(body=body, patch=patch, value="now")

    assert essence == progress.clear(essence=essence) == {}
    assert persistence.diffbase_storage.fetch(body=body) is None
    assert progress.fetch(key=cast(Any, "handler"), body=body) is None
    assert not patch


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('{"message": "pods is\\n forbidden"}', "pods is forbidden"),
        ("404 page not found", "404 Not Found"),
        ('["odd"]', "404 Not Found"),
        (None, "404 Not Found"),
    ],
    ids=["a Status in one line", "no JSON", "no Status", "no body"],
)
def test_errors_in_words(body: str | None, text: str) -> None:
    """They end up in logs and conditions."""
    assert message_of(ApiException(status=404, reason="Not Found", body=body)) == text


@pytest.mark.parametrize(
    ("env", "argv", "namespace"),
    [
        ({}, [], "bayplan-system"),
        ({"POD_NAMESPACE": "ours"}, [], "ours"),
        ({"POD_NAMESPACE": "ours"}, ["--namespace", "other"], "other"),
    ],
    ids=["by default", "where it runs", "as it is told"],
)
def test_where_the_lease_is_looked_for(
    env: dict[str, str], argv: list[str], namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the wrong namespace every planner looks dead, and all gates would be lifted."""
    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    assert program._options(argv).namespace == namespace  # noqa: SLF001 - the one reader of them
