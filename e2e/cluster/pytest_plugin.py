"""The cluster as pytest fixtures.

One cluster serves a whole test session, and each test gets a namespace of its own. Where
pytest-xdist runs tests side by side (`e2e/distribution.py`), each worker opens a cluster of its
own; an existing cluster is there once, and serves one worker. A machine that can give no cluster
fails these tests, with the reason: it does not skip them.
"""

import secrets
from collections.abc import Iterator

import pytest

from e2e.cluster.choose import open_cluster
from e2e.cluster.errors import ClusterError, CommandFailed
from e2e.cluster.handle import Cluster
from e2e.cluster.progress import Progress, to_stderr
from e2e.cluster.waiting import eventually


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Open the first cluster that this machine can give."""
    try:
        opened = open_cluster(progress=_progress(request.config))
        lent = opened.__enter__()
    except ClusterError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield lent
    finally:
        opened.__exit__(None, None, None)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """Make a namespace in which pods can be created, and delete it after the test.

    Its pods go at once: the next test may lend a node of a name that they are still bound to.
    """
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl_run("create", "namespace", name)
    eventually(
        lambda: cluster.read("serviceaccount/default", namespace=name),
        what=f"the service account of namespace {name} is there",
        retry_on=(CommandFailed,),
    )
    yield name
    cluster.kubectl_run("delete", "namespace", name, "--wait=false")
    at_once = ("--force", "--grace-period=0", "--wait=false")
    cluster.kubectl_run("delete", "pods", "--all", "-n", name, *at_once)


def _progress(config: pytest.Config) -> Progress:
    """Show progress past pytest's capture: a first build takes minutes."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return reporter.write_line if reporter is not None else to_stderr
