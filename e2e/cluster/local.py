"""A Kubernetes control plane on loopback, without containers.

etcd, kube-apiserver, kube-controller-manager, the default kube-scheduler and kwok, each a child
process. Several can run side by side, and none outlives the process that opened it. Pods never
run anything: kwok plays the kubelets of the fake nodes (`nodes.py`). There is no kube-proxy, so
a webhook must be registered by URL (https://127.0.0.1:…), not by Service.
"""

import json
import secrets
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from e2e.cluster import binaries
from e2e.cluster.certificates import Certificates, write_certificates
from e2e.cluster.errors import CommandFailed
from e2e.cluster.handle import Cluster
from e2e.cluster.ports import lease_port
from e2e.cluster.processes import ProcessGroup
from e2e.cluster.progress import Progress, to_stderr
from e2e.cluster.run_dir import new_run_dir
from e2e.cluster.waiting import eventually

_STAGES = Path(__file__).with_name("kwok-stages.yaml")
_SERVICE_IP = "10.0.0.1"
_READY_TIMEOUT_S = 120.0  # kube-apiserver takes five seconds of a core, of which there may be few
_REQUEST_TIMEOUT_S = 5.0
_HEARTBEAT_S = 10  # as kubelets do
_USERS = {
    "admin": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Site:
    """What the components are started from."""

    run_dir: Path
    programs: dict[str, Path]
    certificates: Certificates
    tokens: dict[str, str]
    etcd_url: str
    api_url: str
    heartbeat_s: int

    def kubeconfig(self, user: str) -> Path:
        """The kubeconfig file of one of `_USERS`."""
        return self.run_dir / f"{user.removeprefix('system:')}.kubeconfig"


def unavailable() -> str | None:
    """Say why a local control plane cannot run here, or None if it can."""
    if sys.platform != "linux":
        return "the local control plane needs Linux (it relies on the kernel to end its children)"
    return None


@contextmanager
def open_local(
    *, progress: Progress = to_stderr, heartbeat_s: int = _HEARTBEAT_S
) -> Iterator[Cluster]:
    """Start a local control plane and stop it on leaving.

    Args:
        progress: Is told what is being done.
        heartbeat_s: Seconds between two signs of life of a fake node; each is a write, and
            thousands of nodes every ten seconds leave a small machine no time for anything else.

    Raises:
        BuildFailed: A program is missing and could not be built.
        ProcessDied: A component did not come up; the message ends with its log.
    """
    programs = {name: binaries.path(name, progress=progress) for name in binaries.LOCAL_NAMES}
    started_at = time.monotonic()
    with ExitStack() as stack:
        run_dir = stack.enter_context(new_run_dir())
        group = stack.enter_context(ProcessGroup(run_dir / "logs"))
        ports = [lease_port(), lease_port()]
        for port in ports:
            stack.callback(port.release)
        site = _prepare(
            run_dir,
            programs,
            etcd_port=ports[0].number,
            api_port=ports[1].number,
            heartbeat_s=heartbeat_s,
        )
        cluster = Cluster(
            flavor="local",
            kubeconfig=site.kubeconfig("admin"),
            kubectl=programs["kubectl"],
            run_dir=run_dir,
        )
        _start(site, group, cluster)
        progress(f"control plane ready in {time.monotonic() - started_at:.1f} s")
        yield replace(cluster, components={each.name: each for each in group.processes})


def _prepare(
    run_dir: Path, programs: dict[str, Path], *, etcd_port: int, api_port: int, heartbeat_s: int
) -> _Site:
    site = _Site(
        run_dir=run_dir,
        programs=programs,
        certificates=write_certificates(run_dir / "pki", service_ip=_SERVICE_IP),
        tokens={user: secrets.token_hex(16) for user in _USERS},
        etcd_url=f"http://127.0.0.1:{etcd_port}",
        api_url=f"https://127.0.0.1:{api_port}",
        heartbeat_s=heartbeat_s,
    )
    lines = [f'{site.tokens[user]},{user},{user},"{group}"\n' for user, group in _USERS.items()]
    (run_dir / "tokens.csv").write_text("".join(lines))
    for user in _USERS:
        site.kubeconfig(user).write_text(json.dumps(_kubeconfig(site, user), indent=2))
    (run_dir / "scheduler.json").write_text(json.dumps(_scheduler_config(site), indent=2))
    return site


def _start(site: _Site, group: ProcessGroup, cluster: Cluster) -> None:
    """Start the components in the order in which they need each other."""
    # 1. The store and the server in front of it.
    group.start("etcd", _etcd(site))
    _await(group, lambda: _answers(f"{site.etcd_url}/readyz"), what="etcd is ready")
    group.start("kube-apiserver", _apiserver(site))
    _await(group, lambda: _is_ready(site), what="kube-apiserver is ready")
    # 2. Everything that only talks to the server.
    group.start("kube-controller-manager", _controller_manager(site))
    group.start("kube-scheduler", _scheduler(site))
    group.start("kwok", _kwok(site), env={**cluster.env, "KWOK_WORKDIR": str(site.run_dir)})
    # 3. Pods can be made once their service account and its CA bundle are there.
    _await(group, lambda: _has_defaults(cluster), what="the default service account is there")


def _await(group: ProcessGroup, condition: Callable[[], bool], *, what: str) -> None:
    def ready() -> bool:
        group.check()
        return condition()

    eventually(ready, what=what, timeout_s=_READY_TIMEOUT_S)


def _answers(url: str, *, token: str = "", ca: Path | None = None) -> bool:
    request = urllib.request.Request(url)  # noqa: S310 - our own loopback URL
    request.add_header("Authorization", f"Bearer {token}")
    context = ssl.create_default_context(cafile=ca) if ca else None
    try:
        with urllib.request.urlopen(request, timeout=_REQUEST_TIMEOUT_S, context=context):  # noqa: S310 - as above
            return True
    except OSError:  # refused, reset, or an HTTP status that means "not yet"
        return False


def _is_ready(site: _Site) -> bool:
    return _answers(f"{site.api_url}/readyz", token=site.tokens["admin"], ca=site.certificates.ca)


def _has_defaults(cluster: Cluster) -> bool:
    try:
        cluster.kubectl_run("get", "serviceaccount/default", "configmap/kube-root-ca.crt")
    except CommandFailed:
        return False
    return True


def _kubeconfig(site: _Site, user: str) -> dict[str, object]:
    server = {"server": site.api_url, "certificate-authority": str(site.certificates.ca)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": server}],
        "users": [{"name": user, "user": {"token": site.tokens[user]}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": user}}],
        "current-context": "local",
    }


def _scheduler_config(site: _Site) -> dict[str, object]:
    kubeconfig = str(site.kubeconfig("system:kube-scheduler"))
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        # The default of 50 requests a second throttles binding.
        "clientConnection": {"kubeconfig": kubeconfig, "qps": 5000, "burst": 5000},
        "leaderElection": {"leaderElect": False},
    }


def _etcd(site: _Site) -> list[str | Path]:
    return [
        site.programs["etcd"],
        f"--data-dir={site.run_dir}/etcd",
        f"--listen-client-urls={site.etcd_url}",
        f"--advertise-client-urls={site.etcd_url}",
        "--listen-peer-urls=http://127.0.0.1:0",
        "--unsafe-no-fsync",  # nobody needs this data after a power cut
        "--log-level=warn",
    ]


def _apiserver(site: _Site) -> list[str | Path]:
    pki = site.certificates
    return [
        site.programs["kube-apiserver"],
        f"--etcd-servers={site.etcd_url}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={site.api_url.rpartition(':')[2]}",
        "--endpoint-reconciler-type=none",  # a loopback address is refused as an endpoint
        f"--service-cluster-ip-range={_SERVICE_IP}/24",
        f"--tls-cert-file={pki.server}",
        f"--tls-private-key-file={pki.server_key}",
        f"--token-auth-file={site.run_dir}/tokens.csv",
        # Without these the others log errors about a CA bundle they cannot find.
        f"--requestheader-client-ca-file={pki.ca}",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki.service_account_key}",
        f"--service-account-signing-key-file={pki.service_account_key}",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        "--max-requests-inflight=3000",
        "--max-mutating-requests-inflight=1000",
        "--shutdown-watch-termination-grace-period=1s",  # else open watches hold up the stop
    ]


def _controller_manager(site: _Site) -> list[str | Path]:
    kubeconfig = site.kubeconfig("system:kube-controller-manager")
    return [
        site.programs["kube-controller-manager"],
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
        f"--root-ca-file={site.certificates.ca}",
        "--use-service-account-credentials",
        "--kube-api-qps=2000",
        "--kube-api-burst=4000",
        "--horizontal-pod-autoscaler-sync-period=2s",  # nothing here needs the default's 15 s
        f"--node-monitor-grace-period={5 * site.heartbeat_s}s",  # the default for kubelets' 10 s
    ]


def _scheduler(site: _Site) -> list[str | Path]:
    return [
        site.programs["kube-scheduler"],
        f"--config={site.run_dir}/scheduler.json",
        "--secure-port=0",
    ]


def _kwok(site: _Site) -> list[str | Path]:
    return [
        site.programs["kwok"],
        f"--kubeconfig={site.kubeconfig('admin')}",
        f"--config={_STAGES}",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        "--cidr=10.128.0.1/9",
        "--node-ip=127.0.0.1",
        f"--node-lease-duration-seconds={4 * site.heartbeat_s}",
        "--v=WARN",
    ]
