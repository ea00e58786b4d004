"""The API types: what they promise to users, and that they say the same as the core."""

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from bayplan import plan, policy
from bayplan.api import inference_deployment, packing_plan, packing_policy
from bayplan.api.crd import crds
from bayplan.api.pod_template import PodTemplate
from bayplan.codec import snapshot_of
from bayplan_extender.planner import lease
from charts.generate import ROOT

DEFINITIONS = {crd["spec"]["names"]["kind"]: crd for crd in crds()}


def schema_of(kind: str) -> dict[str, Any]:
    """Return the schema of a kind."""
    schema: dict[str, Any] = DEFINITIONS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def fields_of(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every field of a schema with its path."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from fields_of(field, f"{path}.{name}")
        yield from fields_of(field.get("items", {}), f"{path}.{name}[]")


def test_policy_defaults_are_the_built_in_ones() -> None:
    """A cluster without a PackingPolicy must behave like one with an empty policy."""
    built_in, spec = policy.Policy(), packing_policy.PackingPolicySpec()
    assert not spec.defragmentation.windows

    assert {
        "time_limit_s": spec.time_limit_seconds,
        "max_moves": spec.max_moves,
        "max_evictions": spec.max_evictions,
        "max_parallel_moves": spec.max_parallel_moves,
        "gate_timeout_s": spec.gate_timeout_seconds,
        "order": spec.order,
        "cooldown_s": spec.cooldown_seconds,
        "defragmentation": policy.Defragmentation(
            max_moves=spec.defragmentation.max_moves,
            moves_per_slot=spec.defragmentation.moves_per_slot,
        ),
        "node_provisioning": spec.node_provisioning,
    } == {name: getattr(built_in, name) for name in policy.Policy.__dataclass_fields__}


def test_gates_outlast_a_change_of_planners() -> None:
    """They would be lifted while the next replica, which is alive, waits for its turn."""
    fields = dict(fields_of(schema_of("PackingPolicy")))
    in_crd = fields[".spec.gateTimeoutSeconds"]["minimum"]
    chart = json.loads((ROOT / "charts" / "bayplan" / "values.schema.json").read_text())
    in_chart = chart["properties"]["policy"]["properties"]["gateTimeoutSeconds"]["minimum"]

    assert in_crd == in_chart == policy.LEAST_GATE_TIMEOUT_S
    assert policy.LEAST_GATE_TIMEOUT_S > lease.DURATION_S + lease.RETRY_S


def test_chart_values_are_the_built_in_policy() -> None:
    """Installing the chart must not change what a plan may do."""
    values = yaml.safe_load((ROOT / "charts" / "bayplan" / "values.yaml").read_text())

    adapter = TypeAdapter(packing_policy.PackingPolicySpec)
    assert values["policy"] == adapter.dump_python(
        packing_policy.PackingPolicySpec(), mode="json", by_alias=True
    )


@pytest.mark.parametrize(
    ("published", "decided"),
    [
        (packing_plan.Verdict, plan.Verdict),
        (packing_plan.Order, policy.Order),
        (packing_policy.Day, policy.Day),
        (packing_policy.NodeProvisioning, policy.NodeProvisioning),
    ],
    ids=["verdict", "order", "day", "node provisioning"],
)
def test_published_words_are_those_of_the_core(
    published: type[StrEnum], decided: type[StrEnum]
) -> None:
    """The API server would refuse a plan whose verdict or order the CRD does not know."""
    assert [each.value for each in published] == [each.value for each in decided]


def test_a_policy_names_every_order_but_that_of_a_window() -> None:
    """A cluster would be defragmented by every plan, or an order could not be asked for."""
    named = {each.value for each in packing_policy.Order}

    assert named == {each.value for each in policy.Order} - {policy.Order.DEFRAGMENT.value}


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_every_field_is_documented(kind: str) -> None:
    """`kubectl explain` must have an answer for every field."""
    bare = [path for path, field in fields_of(schema_of(kind)) if not field.get("description")]

    assert bare == []


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_every_list_is_bounded_or_the_users_own(kind: str) -> None:
    """An object that can grow without end would one day be too big to store."""
    users_own = (".template.spec.", ".workerTemplate.spec.")

    unbounded = [
        path
        for path, field in fields_of(schema_of(kind))
        if field["type"] == "array"
        and "maxItems" not in field
        and not any(part in path for part in users_own)
    ]
    assert unbounded == []


def test_names_of_the_kinds() -> None:
    """Short names and categories are what people type."""
    named = {
        kind: (crd["spec"]["scope"], crd["spec"]["names"]["shortNames"], names["categories"])
        for kind, crd in DEFINITIONS.items()
        if (names := crd["spec"]["names"])
    }

    assert named == {
        "InferenceDeployment": ("Namespaced", ["infd"], ["all", "inference"]),
        "PackingPlan": ("Cluster", ["pplan"], ["inference"]),
        "PackingPolicy": ("Cluster", ["ppolicy"], ["inference"]),
    }


def test_a_field_keeps_its_text_where_its_type_has_another() -> None:
    """Two fields of one type mean two things."""
    texts = dict(fields_of(schema_of("InferenceDeployment")))

    assert texts[".status.pools[].role"]["description"] == "Role of the pool."
    assert texts[".spec.pools[].role"]["description"] != "Role of the pool."


def test_a_template_comes_back_as_it_was() -> None:
    """Fields that only the API server knows must survive a round through the model."""
    template = {
        "metadata": {"labels": {"app": "chat"}, "name": "kept"},
        "spec": {
            "containers": [{"name": "vllm", "ports": [{"containerPort": 8000}]}],
            "nodeSelector": {"disk": "ssd"},
        },
    }

    adapter = TypeAdapter(PodTemplate)
    parsed = adapter.validate_python(template)

    assert adapter.dump_python(parsed, by_alias=True, exclude_unset=True) == template


@pytest.mark.parametrize(
    "example", sorted((ROOT / "docs" / "examples").glob("*.yaml")), ids=lambda path: path.name
)
def test_every_example_can_be_planned(example: Path) -> None:
    """What is copied from the documentation must work."""
    documents = list(yaml.safe_load_all(example.read_text()))

    assert snapshot_of(documents).pods


def test_the_example_is_valid() -> None:
    """The first thing a user applies must work."""
    text = (ROOT / "docs" / "examples" / "chat.yaml").read_text()
    _, raw = yaml.safe_load_all(text)

    parsed = inference_deployment.InferenceDeployment.model_validate(raw)

    assert (parsed.spec.replicas, parsed.spec.ratio.decode) == (2, 2)
