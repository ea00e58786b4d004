"""Bayplan on a cluster: the chart installed, and its four programs running.

On kind and on an existing cluster the programs run as the chart's pods. On the local control plane
the nodes are fake, so there the chart is installed with no replicas and the same programs run as
processes beside it, each with a token of its own ServiceAccount: a missing permission shows.
"""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from e2e import images
from e2e.cluster import (
    Cluster,
    CommandFailed,
    PortLease,
    Process,
    ProcessGroup,
    binaries,
    eventually,
    lease_port,
)
from e2e.cluster.certificates import Authority
from e2e.cluster.progress import Progress, to_stderr

NAMESPACE = "bayplan-system"
PROGRAMS = ("operator", "planner", "webhook", "scheduler")
CHART = Path(__file__).parent.parent / "charts" / "bayplan"

#: Seconds in which a program is ready: what it imports takes seconds of a core.
READY_S = 180.0

#: A pod that the admission policy should gate; created as a dry run only.
_PROBE_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "probe", "namespace": "default"},
    "spec": {
        "schedulerName": "bayplan",
        "containers": [{"name": "probe", "image": "registry.example/probe"}],
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Bayplan installed on a cluster.

    Attributes:
        cluster: The cluster.
        processes: The programs that run as processes, by name; empty where they are pods.
        health: Where such a process answers probes, by its name.
        figures: Where such a process serves its figures to Prometheus, by its name.
    """

    cluster: Cluster
    processes: dict[str, Process] = field(default_factory=dict)
    health: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, str] = field(default_factory=dict)

    def stop(self, program: str) -> None:
        """Take a program away until `start`."""
        if self.processes:
            self.processes[program].stop()
        else:
            self._scale(program, 0)

    def kill(self, program: str) -> None:
        """Make a program die without a word, as a crash would."""
        if self.processes:
            self.processes[program].kill()
        else:
            selector = f"app.kubernetes.io/component={program}"
            arguments = ("-n", NAMESPACE, "-l", selector, "--grace-period=0", "--force")
            self.cluster.kubectl_run("delete", "pod", *arguments)

    def start(self, program: str) -> None:
        """Bring a program back after `stop` or `kill`."""
        if self.processes:
            self.processes[program].start()
        else:
            self._scale(program, 1)

    def is_ready(self, program: str) -> bool:
        """Return whether a program that runs as a process answers that it is ready."""
        return answers(f"{self.health[program]}/readyz")

    def log(self, program: str) -> str:
        """Return what a program has logged."""
        if self.processes:
            return self.processes[program].log.read_text(errors="replace")
        return self.cluster.kubectl_run("logs", "-n", NAMESPACE, f"deployment/bayplan-{program}")

    def figure(self, program: str, name: str) -> float:
        """Return a figure of planner or webhook, summed over its labels; 0 if there is none."""
        lines = self._figures(program).splitlines()
        told = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return sum(float(value) for key, _, value in told if key.partition("{")[0] == name)

    def _figures(self, program: str) -> str:
        if not self.processes:
            pod = f"deployment/bayplan-{program}"
            fetch = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
            port = {"operator": 9090, "planner": 8082, "webhook": 8080}[program]
            url = f"http://127.0.0.1:{port}/metrics"
            arguments = ("exec", "-n", NAMESPACE, pod, "--", "python", "-c", fetch, url)
            return self.cluster.kubectl_run(*arguments)
        return answer_of(f"{self.figures[program]}/metrics")[1]

    def _scale(self, program: str, replicas: int) -> None:
        name = f"deployment/bayplan-{program}"
        self.cluster.kubectl_run("scale", "-n", NAMESPACE, name, f"--replicas={replicas}")


@contextmanager
def install(
    cluster: Cluster,
    *,
    programs: Sequence[str] = PROGRAMS,
    values: Sequence[str] = (),
    tls: Authority | None = None,
    progress: Progress = to_stderr,
) -> Iterator[Stack]:
    """Install the chart and run `programs`; leaving the block removes both.

    `values` are further `--set` arguments of helm, e.g. "policy.gateTimeoutSeconds=20". With `tls`,
    which needs the local control plane, scheduler and webhook show each other certificates that it
    issues into `tls_folder`.
    """
    if tls is not None:
        values = [*values, "tls.enabled=true"]
        for program in ("webhook", "scheduler"):
            tls.issue(f"bayplan-{program}", tls_folder(cluster, program))
    with ProcessGroup(cluster.logs) as group, _ports() as ports:
        if cluster.flavor == "kind":
            images.load(cluster, progress=progress)
        eventually(
            lambda: not _is_going(cluster), what="an earlier installation has gone", timeout_s=90
        )
        progress("helm install bayplan charts/bayplan")
        _helm_install(cluster, [*_values(cluster, ports, programs, tls=tls is not None), *values])
        try:
            stack = Stack(cluster=cluster)
            if cluster.flavor == "local":
                commands = _commands(cluster, ports, tls=tls is not None)
                commands["webhook"] += ["--bind"] if "webhook.bind=true" in values else []
                health = _health(ports, tls=tls)
                stack = Stack(
                    cluster=cluster,
                    processes=_start(cluster, group, commands, programs),
                    health=health,
                    figures=health | {"operator": _local(ports["operator-metrics"])},
                )
            _wait_until_ready(stack, programs)
            progress(f"running: {', '.join(programs)}")
            yield stack
            _only_valid_plans(stack, programs)
        finally:
            group.stop()  # first, or they would complain of tokens that are no longer valid
            _helm_uninstall(cluster)


def _only_valid_plans(stack: Stack, programs: Sequence[str]) -> None:
    """Fail if the validator refused an answer: what was published instead may hide that."""
    if "planner" in programs:
        wrong = [line for line in stack.log("planner").splitlines() if "plan_not_valid" in line]
        if wrong:
            raise AssertionError(f"the solver's answers were refused: {wrong[0]}")


def tls_folder(cluster: Cluster, program: str) -> Path:
    """Return where a program's tls.crt, tls.key and ca.crt are."""
    return cluster.run_dir / "tls" / program


@contextmanager
def _ports() -> Iterator[Mapping[str, PortLease]]:
    names = (*PROGRAMS, "operator-metrics", "webhook-health")
    leases = {name: lease_port() for name in names}
    try:
        yield leases
    finally:
        for lease in leases.values():
            lease.release()


def _values(
    cluster: Cluster, ports: Mapping[str, PortLease], programs: Sequence[str], *, tls: bool
) -> list[str]:
    """Return helm's `--set` arguments: no pods of ours where nodes are fake."""
    local = cluster.flavor == "local"
    wanted = {program: int(program in programs and not local) for program in PROGRAMS}
    values = [f"{program}.replicas={replicas}" for program, replicas in wanted.items()]
    if local:
        port = ports["webhook"].number
        scheme = "https" if tls else "http"
        values.append(f"scheduler.extender.urlPrefix={scheme}://127.0.0.1:{port}")
    return values


def _helm_install(cluster: Cluster, values: Sequence[str]) -> None:
    settings = [word for value in values for word in ("--set", value)]
    arguments = ["install", "bayplan", str(CHART), "-n", NAMESPACE, "--create-namespace"]
    _helm(cluster, *arguments, *settings)


def _helm_uninstall(cluster: Cluster) -> None:
    """Remove the release and all our objects; from a cluster of others the CRDs as well.

    The namespace takes 5 s more to go, which nobody but the next installation has to wait for. A
    cluster that is made for the tests keeps the CRDs: its garbage collector takes up to half a
    minute to learn of new kinds, and each time nothing that belongs to them would go before.
    """
    _helm(cluster, "uninstall", "bayplan", "-n", NAMESPACE, "--wait")
    cluster.kubectl_run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")
    cluster.kubectl_run("delete", "infd,pplan,ppolicy", "--all", "-A")
    if cluster.flavor == "existing":
        crds = ["inferencedeployments", "packingplans", "packingpolicies"]
        named = [f"crd/{name}.bayplan.dev" for name in crds]
        cluster.kubectl_run("delete", *named, "--ignore-not-found", "--wait=true")


def _is_going(cluster: Cluster) -> bool:
    """Return whether our namespace is there, but on its way out."""
    found = [each["metadata"] for each in cluster.read("namespaces")["items"]]
    return any(each["name"] == NAMESPACE and "deletionTimestamp" in each for each in found)


def _helm(cluster: Cluster, *arguments: str) -> None:
    result = subprocess.run(
        [cluster.helm, *arguments], env=cluster.env, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise CommandFailed(f"helm {' '.join(arguments)}: {result.stderr.strip()}")


def _start(
    cluster: Cluster,
    group: ProcessGroup,
    commands: Mapping[str, list[str | Path]],
    programs: Sequence[str],
) -> dict[str, Process]:
    """Start the programs as processes under their ServiceAccounts."""
    return {
        program: group.start(
            program, commands[program], env=_env(cluster, program), cwd=CHART.parent.parent
        )
        for program in programs
    }


def _commands(
    cluster: Cluster, ports: Mapping[str, PortLease], *, tls: bool
) -> dict[str, list[str | Path]]:
    port = {name: str(lease.number) for name, lease in ports.items()}
    python: list[str | Path] = [sys.executable, "-m"]
    own_ports = ["--health-port", port["operator"], "--metrics-port", port["operator-metrics"]]
    listen = ["--host", "127.0.0.1", "--port", port["webhook"]]
    if tls:
        listen += ["--health-port", port["webhook-health"]]
        for option, file in (("cert", "crt"), ("key", "key")):
            listen += [f"--tls-{option}", str(tls_folder(cluster, "webhook") / f"tls.{file}")]
        listen += ["--tls-client-ca", str(tls_folder(cluster, "webhook") / "ca.crt")]
    return {
        "operator": [*python, "bayplan_operator", "--namespace", NAMESPACE, *own_ports],
        "planner": [
            *(*python, "bayplan_extender", "planner", "--namespace", NAMESPACE),
            *("--health-port", port["planner"]),
        ],
        "webhook": [*python, "bayplan_extender", "webhook", *listen],
        "scheduler": [
            binaries.path("kube-scheduler"),
            *("--config", _scheduler_config(cluster)),
            *("--bind-address", "127.0.0.1", "--secure-port", port["scheduler"]),
        ],
    }


def _env(cluster: Cluster, program: str) -> dict[str, str]:
    kubeconfig = str(_kubeconfig(cluster, program))
    return cluster.env | {"KUBECONFIG": kubeconfig, "POD_NAMESPACE": NAMESPACE}


def _kubeconfig(cluster: Cluster, program: str) -> Path:
    """Write a kubeconfig that logs in as the program's ServiceAccount."""
    path = cluster.run_dir / f"{program}.kubeconfig"
    account = f"bayplan-{program}"
    token = cluster.kubectl_run("create", "token", account, "-n", NAMESPACE, "--duration", "12h")
    config: dict[str, Any] = yaml.safe_load(cluster.kubeconfig.read_text())
    user = config["contexts"][0]["context"]["user"]
    config["users"] = [{"name": user, "user": {"token": token.strip()}}]
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path


def _scheduler_config(cluster: Cluster) -> Path:
    """Write the chart's own scheduler configuration, with the kubeconfig that a process needs."""
    path = cluster.run_dir / "scheduler-config.yaml"
    raw = cluster.read("configmap/bayplan-scheduler", namespace=NAMESPACE)
    config: dict[str, Any] = yaml.safe_load(raw["data"]["config.yaml"])
    config["clientConnection"]["kubeconfig"] = str(_kubeconfig(cluster, "scheduler"))
    for extender in config["extenders"]:
        files = extender.get("tlsConfig", {})
        for option, path_in_pod in files.items():
            files[option] = str(tls_folder(cluster, "scheduler") / Path(path_in_pod).name)
    path.write_text(yaml.safe_dump(config))
    return path


def _health(ports: Mapping[str, PortLease], *, tls: Authority | None) -> dict[str, str]:
    """Return where programs answer probes; beside TLS the webhook does on a port of its own."""
    asked = {"operator": "operator", "planner": "planner"}
    asked["webhook"] = "webhook-health" if tls else "webhook"
    return {name: _local(ports[port]) for name, port in asked.items()}


def _local(port: PortLease) -> str:
    return f"http://127.0.0.1:{port.number}"


def _wait_until_ready(stack: Stack, programs: Sequence[str]) -> None:
    kinds = "infd,pplan,ppolicy"
    eventually(
        lambda: stack.cluster.kubectl_run("get", kinds) is not None,
        what="the API server serves our kinds",
        retry_on=(CommandFailed,),
    )
    eventually(lambda: _is_gated(stack.cluster), what="the admission policy gates pods")
    if not stack.processes:
        for program in programs:
            name = f"deployment/bayplan-{program}"
            stack.cluster.kubectl_run("rollout", "status", "-n", NAMESPACE, name)
        return
    for program in (program for program in programs if program in stack.health):
        ready = partial(_answers, stack, program)
        eventually(ready, what=f"the {program} is ready", timeout_s=READY_S)


def _is_gated(cluster: Cluster) -> bool:
    """Return whether the admission policy works yet (it takes about 2 s after its creation)."""
    arguments = ("create", "--dry-run=server", "-o", "json", "-f", "-")
    made = json.loads(cluster.kubectl_run(*arguments, input=json.dumps(_PROBE_POD)))
    return bool(made["spec"].get("schedulingGates"))


def _answers(stack: Stack, program: str) -> bool:
    stack.processes[program].check()
    return stack.is_ready(program)


def answers(url: str) -> bool:
    """Return whether one of our programs answers there, and well."""
    try:
        return answer_of(url)[0] == 200
    except OSError:
        return False


def answer_of(url: str) -> tuple[int, str]:
    """Return the code and the text with which one of our programs answers.

    Raises:
        OSError: Nobody does.
    """
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 - our own, on loopback
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
