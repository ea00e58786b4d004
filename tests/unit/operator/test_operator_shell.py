"""The operator's edges: how it connects, what it is started with, how errors read."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import kopf
import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.config import incluster_config, kube_config

from bayplan_extender import kube
from bayplan_extender import logs as extender_logs
from bayplan_extender.__main__ import main as extender
from bayplan_operator import __main__ as program
from bayplan_operator import logs as operator_logs
from bayplan_operator.cluster import connection
from bayplan_operator.cluster.kube import message_of
from bayplan_operator.handlers import settings

NOW = datetime(2026, 5, 1, tzinfo=UTC)


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


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a pod's service account, where the client library looks for it."""
    (tmp_path / "token").write_text("first")
    (tmp_path / "ca.crt").write_text("certificate")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return tmp_path


@pytest.mark.parametrize("main", [lambda: program.main([]), extender], ids=["operator", "planner"])
@pytest.mark.parametrize("text", [None, ""], ids=["missing", "empty"])
def test_a_pod_without_a_token_says_what_is_missing(
    mounted: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    main: Callable[[], int],
    text: str | None,
) -> None:
    """It ended with a traceback about kubectl's configuration."""
    monkeypatch.setattr(sys, "argv", ["bayplan_extender", "planner"])
    for module in (operator_logs, extender_logs):
        monkeypatch.setattr(module, "configure", lambda: None)
    (mounted / "token").unlink()
    if text is not None:
        (mounted / "token").write_text(text)

    assert main() == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(("error: Service token file does not", "error: Token file exists but"))
    assert line.endswith("is automountServiceAccountToken false?")


@pytest.mark.parametrize("is_named", [True, False], ids=["KUBECONFIG", "no KUBECONFIG"])
def test_inside_a_pod_all_programs_ask_the_cluster_that_kubeconfig_names(
    mounted: Path, monkeypatch: pytest.MonkeyPatch, *, is_named: bool
) -> None:
    """`kubectl bayplan` told about another cluster than the `kubectl` beside it."""
    if is_named:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(mounted, token="secret")))  # noqa: S106 - nobody's
    monkeypatch.setattr(client.Configuration, "_default", None)
    monkeypatch.setattr(client.rest, "RESTClientObject", lambda _: None)  # no CA to check with

    asked = {connection.configuration().host, kube.connect().configuration.host}

    assert asked == {"https://127.0.0.1:1" if is_named else "https://10.0.0.1:443"}


@pytest.mark.usefixtures("mounted")
def test_kopf_logs_in_with_the_token_of_a_pod() -> None:
    """Seen: `Authorization: Bearer bearer first`, which the API server refuses."""
    login = connection.kopf_login(connection.configuration())
    assert login.as_http_headers() == {"Authorization": "Bearer first"}


def test_a_token_that_cannot_be_read_anew_is_used_on(
    mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator ended, although the API server still took the one it had."""
    minutes = count(step=2)
    later = SimpleNamespace(now=lambda: NOW + timedelta(minutes=next(minutes)))
    stands_in = SimpleNamespace(datetime=later, timedelta=timedelta)
    monkeypatch.setattr(incluster_config, "datetime", stands_in)
    found = connection.configuration()

    used = []
    for text in ("", None, "second", ""):
        if text is None:
            (mounted / "token").unlink()
        else:
            (mounted / "token").write_text(text)
        used.append(connection.kopf_login(found).token)

    assert used == ["first", "first", "second", "second"]


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
