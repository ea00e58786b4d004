"""The chart, as helm renders it: what it grants, what it refuses, what it configures."""

import functools
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from bayplan.api import names
from charts.generate import CHART, NAMESPACE, manifest_files, stale
from e2e.cluster import binaries
from tests.charts.rendering import TLS, helm

PROGRAMS = ("operator", "planner", "webhook", "scheduler")
ADMISSION = "admissionregistration.k8s.io"
BIND = ("webhook.bind=true", TLS)
NO_PODS = tuple(f"{program}.replicas=0" for program in PROGRAMS)

Object = dict[str, Any]


@functools.cache
def render(*values: str, apis: tuple[str, ...] = ()) -> tuple[Object, ...]:
    """Return the objects that the chart makes with these values, on a cluster with these APIs."""
    settings = [word for value in values for word in ("--set", value)]
    known = [word for api in apis for word in ("--api-versions", f"{ADMISSION}/{api}")]
    result = helm(*settings, *known)
    assert result.returncode == 0, result.stderr
    return tuple(each for each in yaml.safe_load_all(result.stdout) if each)


def one(kind: str, name: str, *values: str) -> Object:
    """Return the one object of this kind and name."""
    (found,) = (
        each for each in render(*values) if (each["kind"], each["metadata"]["name"]) == (kind, name)
    )
    return found


def rules(program: str) -> Iterator[Object]:
    """Yield what a program may do."""
    for role in render():
        is_ours = role["metadata"]["name"] == f"bayplan-{program}"
        if is_ours and role["kind"] in {"Role", "ClusterRole"}:
            yield from role["rules"]


def may(program: str, verb: str, resource: str) -> bool:
    """Return whether a program may do this to a resource."""
    return any(verb in rule["verbs"] and resource in rule["resources"] for rule in rules(program))


def pod_spec(program: str, *values: str) -> Object:
    """Return the pod of a program."""
    spec: Object = one("Deployment", f"bayplan-{program}", *values)["spec"]["template"]["spec"]
    return spec


def container(program: str, *values: str) -> Object:
    """Return the container of a program."""
    (found,) = pod_spec(program, *values)["containers"]
    assert isinstance(found, dict)
    return found


def scheduler_config(*values: str) -> Object:
    """Return the configuration of the second scheduler."""
    text = one("ConfigMap", "bayplan-scheduler", *values)["data"]["config.yaml"]
    config: Object = yaml.safe_load(text)
    return config


def test_manifests_are_fresh() -> None:
    """`manifests/` is the chart for people without helm: the same objects."""
    outdated = [path.name for path in stale(manifest_files(binaries.path("helm")))]

    assert outdated == [], "run: python charts/generate.py"


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("replicas=1", "additional properties 'replicas' not allowed"),
        ("planner.replica=1", "additional properties 'replica' not allowed"),
        ("policy.maxMoves=-1", "minimum: got -1, want 0"),
        ("policy.gateTimeoutSeconds=19", "minimum: got 19, want 20"),
        ("operator.replicas=2", "maximum: got 2, want 1"),
        ("scheduler.extender.httpTimeout=soon", "does not match pattern"),
    ],
    ids=["unknown", "misspelt", "out of bounds", "too short", "two writers", "no duration"],
)
def test_a_wrong_value_is_refused_with_a_sentence(value: str, complaint: str) -> None:
    """A misspelt value that is ignored in silence costs its user an afternoon."""
    result = helm("--set", value)

    assert result.returncode != 0
    assert complaint in result.stderr


def test_every_value_is_in_the_schema() -> None:
    """The defaults must be legal, and the schema must not promise values that do not exist."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())

    assert set(schema["properties"]) - {"global"} == set(values)


@pytest.mark.parametrize("kind", ["poddisruptionbudgets", "persistentvolumes"])
def test_only_the_planner_sees_budgets_and_volumes(kind: str) -> None:
    """The planner would never be ready, or another program hold a right that it does not use."""
    watching = [p for p in ("operator", "planner", "webhook") if may(p, "watch", kind)]

    assert watching == ["planner"]


def test_no_role_has_a_wildcard() -> None:
    """A wildcard grants what nobody has thought of."""
    granted = [
        value
        for role in render()
        for rule in role.get("rules", ())
        for values in rule.values()
        for value in values
    ]

    assert granted
    assert not [value for value in granted if "*" in value]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("resource", ["secrets", "configmaps", "nodes/proxy", "pods/exec"])
def test_no_program_reads_what_it_does_not_need(program: str, resource: str) -> None:
    """Who takes over one of our pods must not find the cluster's secrets."""
    assert not any(resource in rule["resources"] for rule in rules(program))


@pytest.mark.parametrize("resource", ["pods", "pods/eviction", "nodes", "packingplans"])
@pytest.mark.parametrize("verb", ["create", "update", "patch", "delete"])
def test_the_webhook_writes_nothing(verb: str, resource: str) -> None:
    """It answers requests from the network: it must have nothing to give away."""
    assert not may("webhook", verb, resource)


def test_only_the_operator_touches_pods() -> None:
    """The planner decides, the operator acts: nobody else can."""
    writers = {
        p for p in PROGRAMS for verb in ("create", "patch", "delete") if may(p, verb, "pods")
    }

    assert writers == {"operator"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_pods_meet_the_restricted_standard(program: str) -> None:
    """Namespaces that enforce the restricted pod security standard must let us in."""
    pod, security = pod_spec(program)["securityContext"], container(program)["securityContext"]

    assert (pod["runAsNonRoot"], pod["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert security == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("program", PROGRAMS)
def test_pods_can_write_to_tmp_and_know_who_they_are(program: str) -> None:
    """Leases are named after the pod, and libraries expect a /tmp."""
    mounts = {each["mountPath"]: each["name"] for each in container(program)["volumeMounts"]}
    volumes = {each["name"]: each for each in pod_spec(program)["volumes"]}

    assert "emptyDir" in volumes[mounts["/tmp"]]  # noqa: S108 - a path in a container
    assert [each["name"] for each in container(program)["env"]] == ["POD_NAME", "POD_NAMESPACE"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_pods_are_probed_on_a_port_they_have(program: str) -> None:
    """A probe of a port that nobody listens on restarts a healthy program for ever."""
    ports = {each["name"]: each["containerPort"] for each in container(program)["ports"]}
    probes = [container(program)[each]["httpGet"] for each in ("livenessProbe", "readinessProbe")]

    assert all(probe["port"] in ports for probe in probes)
    assert probes[0]["path"] == "/healthz"
    # kube-scheduler's own answers for its caches; ours say whether they can do anything.
    assert probes[1]["path"] == ("/healthz" if program == "scheduler" else "/readyz")


@pytest.mark.parametrize("program", PROGRAMS)
def test_our_own_pods_do_not_wait_for_ourselves(program: str) -> None:
    """A planner that waits for a plan would wait for ever."""
    assert "schedulerName" not in pod_spec(program)


def test_no_replicas_leave_everything_but_pods() -> None:
    """Programs that run elsewhere still need accounts, roles, policy and configuration."""
    replicas = {
        each["metadata"]["name"]: each["spec"]["replicas"]
        for each in render(*NO_PODS)
        if each["kind"] == "Deployment"
    }

    assert replicas == {f"bayplan-{program}": 0 for program in PROGRAMS}


def test_every_object_carries_our_labels() -> None:
    """Who wants to know what belongs to us asks by label."""
    bare = [
        each["metadata"]["name"]
        for each in render(apis=("v1/MutatingAdmissionPolicy",))
        if each["metadata"].get("labels", {}).get("app.kubernetes.io/part-of") != "bayplan"
    ]

    assert bare == []


def test_selectors_find_the_pods_of_one_program_only() -> None:
    """Two Deployments that select each other's pods fight over them."""
    selectors = [
        tuple(sorted(each["spec"]["selector"]["matchLabels"].items()))
        for each in render()
        if each["kind"] == "Deployment"
    ]

    assert len(set(selectors)) == len(PROGRAMS)


def test_the_scheduler_asks_us_about_gpu_pods_only() -> None:
    """CPU pods must not pay for us, and an outage of ours must stop nobody."""
    config = scheduler_config()

    assert [profile["schedulerName"] for profile in config["profiles"]] == [names.SCHEDULER]
    assert config["leaderElection"]["resourceNamespace"] == NAMESPACE
    assert config["extenders"] == [
        {
            "urlPrefix": f"http://bayplan-webhook.{NAMESPACE}.svc:8080",
            "filterVerb": "filter",
            "preemptVerb": "preempt",
            "nodeCacheCapable": True,
            "ignorable": True,
            "httpTimeout": "5s",
            "managedResources": [
                {"name": "nvidia.com/gpu", "ignoredByScheduler": False},
                {"name": "amd.com/gpu", "ignoredByScheduler": False},
            ],
        }
    ]


def test_the_scheduler_can_be_told_otherwise() -> None:
    """Values that reach no configuration would be silent no-ops."""
    config = scheduler_config(
        "scheduler.extender.urlPrefix=http://127.0.0.1:1234",
        *BIND,
        "scheduler.extender.httpTimeout=250ms",
        "scheduler.clientConnection.qps=7",
        "gpuResources={gpu.example/h100}",
    )

    (extender,) = config["extenders"]
    assert config["clientConnection"] == {"qps": 7, "burst": 1000}
    assert extender["urlPrefix"] == "http://127.0.0.1:1234"
    assert extender["bindVerb"] == "bind"
    assert extender["httpTimeout"] == "250ms"
    assert [each["name"] for each in extender["managedResources"]] == ["gpu.example/h100"]


def test_the_webhook_may_bind_only_where_it_is_asked_to() -> None:
    """A right that nobody uses is one that somebody may abuse; a missing one binds nothing."""
    granted = {
        (resource, verb)
        for role in render(*BIND)
        if role["metadata"]["name"] == "bayplan-webhook" and role["kind"] == "ClusterRole"
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    assert {("pods/binding", "create"), ("pods", "get")} <= granted
    assert not may("webhook", "create", "pods/binding")
    assert "--bind" in container("webhook", *BIND)["args"]
    assert "--bind" not in container("webhook")["args"]


def test_a_webhook_that_binds_must_know_who_asks() -> None:
    """Any pod of the cluster could have any pod bound to any node with the webhook's rights."""
    result = helm("--set", "webhook.bind=true")

    assert result.returncode != 0
    assert "webhook.bind=true needs tls.enabled=true" in result.stderr


def test_tls_is_between_scheduler_and_webhook_both_ways() -> None:
    """A scheduler that checks nobody, or a webhook that lets in anybody, is as good as no TLS."""
    (extender,) = scheduler_config(TLS)["extenders"]
    webhook = container("webhook", TLS)

    assert extender["urlPrefix"] == f"https://bayplan-webhook.{NAMESPACE}.svc:8080"
    assert (extender["enableHTTPS"], extender["tlsConfig"]) == (
        True,
        {
            "caFile": "/etc/bayplan-tls/ca.crt",
            "certFile": "/etc/bayplan-tls/tls.crt",
            "keyFile": "/etc/bayplan-tls/tls.key",
        },
    )
    assert "--tls-client-ca=/etc/bayplan-tls/ca.crt" in webhook["args"]
    for program, secret in (
        ("webhook", "bayplan-webhook-tls"),
        ("scheduler", "bayplan-scheduler-tls"),
    ):
        volumes = {each["name"]: each for each in pod_spec(program, TLS)["volumes"]}
        mounts = {
            each["mountPath"]: each["name"] for each in container(program, TLS)["volumeMounts"]
        }
        assert volumes[mounts["/etc/bayplan-tls"]]["secret"] == {"secretName": secret}


def test_probes_need_no_certificate() -> None:
    """A kubelet has none to show: a webhook that speaks TLS would be killed for ever."""
    webhook = container("webhook", TLS)
    ports = {each["name"]: each["containerPort"] for each in webhook["ports"]}

    for probe in ("livenessProbe", "readinessProbe"):
        assert webhook[probe]["httpGet"]["port"] == "health"
    assert f"--health-port={ports['health']}" in webhook["args"]


def test_cert_manager_makes_both_certificates_where_an_issuer_is_named() -> None:
    """The names must be those that the scheduler calls and that the pods mount."""
    issuer = ("tls.issuerRef.kind=Issuer", "tls.issuerRef.name=bayplan-ca")
    made = {
        each["spec"]["secretName"]: each["spec"]
        for each in render(TLS, *issuer)
        if each["kind"] == "Certificate"
    }

    assert set(made) == {"bayplan-webhook-tls", "bayplan-scheduler-tls"}
    assert made["bayplan-webhook-tls"]["dnsNames"] == [f"bayplan-webhook.{NAMESPACE}.svc"]
    assert "server auth" in made["bayplan-webhook-tls"]["usages"]
    assert "client auth" in made["bayplan-scheduler-tls"]["usages"]
    assert not [each for each in render(TLS) if each["kind"] == "Certificate"]
    assert not [each for each in render(*issuer) if each["kind"] == "Certificate"]


def test_an_older_cluster_is_refused() -> None:
    """README.md promises 1.34; on an older one nobody has tried it."""
    result = helm("--kube-version", "1.33.9")

    assert result.returncode != 0
    assert ">=1.34.0-0" in result.stderr


def test_the_scheduler_is_of_the_clusters_version() -> None:
    """A scheduler newer than its API server is not supported; providers' suffixes have no image."""
    on_a_provider = helm("--kube-version", "v1.34.4-gke.1134000", "-s", "templates/scheduler.yaml")

    assert 'image: "registry.k8s.io/kube-scheduler:v1.34.4"\n' in on_a_provider.stdout


@pytest.mark.parametrize(
    ("apis", "expected"),
    [
        (("v1beta1/MutatingAdmissionPolicy", "v1/MutatingAdmissionPolicy"), f"{ADMISSION}/v1"),
        (("v1beta1/MutatingAdmissionPolicy",), f"{ADMISSION}/v1beta1"),
        ((), None),
    ],
    ids=["the stable API wins", "the beta API will do", "neither is there"],
)
def test_the_admission_policy_fits_the_cluster(apis: tuple[str, ...], expected: str | None) -> None:
    """An API version that the cluster does not know would fail the whole installation."""
    kinds = {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"}

    found = {each["apiVersion"] for each in render(apis=apis) if each["kind"] in kinds}

    assert found == ({expected} if expected else set())


def test_the_admission_policy_writes_our_names() -> None:
    """Gate and label are what the programs look for, letter by letter."""
    (policy,) = (
        each
        for each in render(apis=("v1/MutatingAdmissionPolicy",))
        if each["kind"] == "MutatingAdmissionPolicy"
    )

    (mutation,) = policy["spec"]["mutations"]
    expression = mutation["applyConfiguration"]["expression"]
    assert f'"{names.LABEL_MANAGED}": "true"' in expression
    assert f'name: "{names.GATE}"' in expression
    (lacks,) = (c for c in policy["spec"]["matchConditions"] if c["name"] == "lacks-label-or-gate")
    assert f"labels['{names.LABEL_MANAGED}'] != 'true'" in lacks["expression"]
    assert f"gate.name == '{names.GATE}'" in lacks["expression"]
    assert policy["spec"]["failurePolicy"] == "Ignore"


def test_the_policy_object_can_be_left_out() -> None:
    """Without the object the built-in defaults hold, and an administrator can bring their own."""
    assert one("PackingPolicy", "default")["spec"]["maxMoves"] == 100
    assert not [each for each in render("policy=null") if each["kind"] == "PackingPolicy"]


def test_the_lease_names_are_those_the_programs_use() -> None:
    """A role for another Lease's name would leave the planner without a leader."""
    named = {
        program: [n for rule in rules(program) for n in rule.get("resourceNames", ())]
        for program in ("planner", "scheduler")
    }

    assert named == {"planner": [names.PLANNER_LEASE], "scheduler": ["bayplan-scheduler"]}
