"""Values as they come from files, and those that the schema refuses."""

from pathlib import Path

import pytest
import yaml

from tests.charts.rendering import TLS, helm


def scheduler_config(tmp_path: Path, **connection: float) -> dict[str, dict[str, float]]:
    """Return what the scheduler reads, with these values from a file."""
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump({"scheduler": {"clientConnection": connection}}))
    result = helm("--values", str(path))
    assert result.returncode == 0, result.stderr
    (found,) = (
        data
        for each in yaml.safe_load_all(result.stdout)
        if each and each["kind"] == "ConfigMap"
        for data in each["data"].values()
        if "KubeSchedulerConfiguration" in data
    )
    assert "e+" not in found.split("burst:")[1].split()[0]
    config: dict[str, dict[str, float]] = yaml.safe_load(found)
    return config


def test_large_numbers_of_a_file_stay_integers(tmp_path: Path) -> None:
    """To helm they are floats, and 4e+06 is no int32 to kube-scheduler, which would not start."""
    connection = scheduler_config(tmp_path, qps=4_000_000, burst=4_000_000)["clientConnection"]

    assert (float(connection["qps"]), connection["burst"]) == (4_000_000, 4_000_000)


def test_a_rate_may_be_a_fraction(tmp_path: Path) -> None:
    """It is a float to kube-scheduler."""
    assert scheduler_config(tmp_path, qps=0.5)["clientConnection"]["qps"] == 0.5


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("tls.issuerRef.kind=ClusterIssuer", "name"),
        ("tls.issuerRef.name=", "issuerRef"),
        ("scheduler.clientConnection.burst=4000000000", "burst"),
        ("planner.replicas=4000000000", "replicas"),
    ],
)
def test_what_could_not_be_applied_is_refused(value: str, complaint: str) -> None:
    """The API server, or cert-manager, would say so later, or never."""
    result = helm("--set", TLS, "--set", value)

    assert result.returncode != 0
    assert complaint in result.stderr


@pytest.mark.parametrize(
    "value", ["gpuResources", "tls", "operator.image", "extender.image.repository"]
)
def test_a_value_that_is_left_empty_is_missed(value: str) -> None:
    """Helm drops it, with its default: without `gpuResources` every pod came to the webhook."""
    result = helm("--set", f"{value}=null")

    assert result.returncode != 0
    assert f"missing property '{value.rpartition('.')[2]}'" in result.stderr


def test_an_issuer_with_a_name_is_enough() -> None:
    """Kind and group have defaults of cert-manager's."""
    result = helm("--set", TLS, "--set", "tls.issuerRef.name=ca")

    assert result.returncode == 0, result.stderr
