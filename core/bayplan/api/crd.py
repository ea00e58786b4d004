"""The CustomResourceDefinitions, made from the models: the one source of chart and reference.

`kube-custom-resource` brings the envelope, camel case and the resolving of references. What it
leaves in a form that the API server refuses, or that would mislead a reader of `kubectl explain`,
is put right here: texts of fields, optional fields, and categories per kind.
"""

import inspect
from typing import Any, Final

from kube_custom_resource.registry import CustomResourceRegistry
from kube_custom_resource.schema import schema_apply
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from bayplan.api.inference_deployment import InferenceDeployment
from bayplan.api.names import GROUP
from bayplan.api.packing_plan import PackingPlan
from bayplan.api.packing_policy import PackingPolicy
from bayplan.api.resource import CustomResource

#: Each kind with the categories that `kubectl get CATEGORY` finds it under.
KINDS: Final[tuple[tuple[type[CustomResource], tuple[str, ...]], ...]] = (
    (InferenceDeployment, ("all", "inference")),
    (PackingPlan, ("inference",)),
    (PackingPolicy, ("inference",)),
)


def crds() -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions as Kubernetes objects, in the order of `KINDS`."""
    return [_crd(model, categories) for model, categories in KINDS]


def _crd(model: type[CustomResource], categories: tuple[str, ...]) -> dict[str, Any]:
    # One registry per kind, because a registry gives all its kinds the same categories.
    registry = CustomResourceRegistry(GROUP, list(categories))
    registry.register_model(model)  # type: ignore[arg-type] # it says instance, takes the class
    crd: dict[str, Any] = next(iter(registry)).kubernetes_resource(include_defaults=True)
    crd["spec"]["versions"][0]["schema"] = {"openAPIV3Schema": _schema(model)}
    return crd


def _schema(model: type[CustomResource]) -> dict[str, Any]:
    # The library's functions carry no types.
    schema = model.model_json_schema(  # type: ignore[no-untyped-call]
        include_defaults=True, schema_generator=_FieldTexts
    )
    fields: dict[str, Any] = schema_apply(schema, _optional)  # type: ignore[no-untyped-call]
    kept: dict[str, Any] = _as_kept({"description": inspect.getdoc(model), **fields})
    return kept


class _FieldTexts(GenerateJsonSchema):
    """Lets the text of a field win over the docstring of its type.

    The library merges a referenced type over the field that refers to it, so that the docstring,
    written for programmers, would replace the field's text, written for users.
    """

    def generate(
        self, schema: core_schema.CoreSchema, mode: JsonSchemaMode = "validation"
    ) -> JsonSchemaValue:
        generated = super().generate(schema, mode)
        types = generated.get("$defs", {})
        docstrings = {f"#/$defs/{name}": types[name].pop("description", "") for name in types}
        _describe(generated, docstrings)
        return generated


def _describe(node: Any, docstrings: dict[str, str]) -> None:  # noqa: ANN401 - any part of a schema
    """Give each reference without a text the docstring of what it refers to, in place."""
    if isinstance(node, dict):
        if "$ref" in node:
            # pydantic drops the text of a field where it is the docstring word for word
            node.setdefault("description", docstrings[node["$ref"]])
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            _describe(part, docstrings)


def _as_kept(part: Any) -> Any:  # noqa: ANN401 - any part of a schema
    """Return it as the API server keeps it: 10, not 10.0, and without lists of no fields.

    Where the two differ, another hand that applies the same definition is in conflict with it:
    helm would not install over definitions that kubectl made.
    """
    if isinstance(part, dict):
        empty = {"required", "properties"} & {key for key, value in part.items() if not value}
        return {key: _as_kept(value) for key, value in part.items() if key not in empty}
    if isinstance(part, list):
        return [_as_kept(each) for each in part]
    return int(part) if isinstance(part, float) and part.is_integer() else part


def _optional(schema: dict[str, Any]) -> dict[str, Any]:
    """Turn "X or null, by default null" into X: in Kubernetes a field without a value is absent.

    A structural schema knows no type null, and the library's `Optional` would let users store
    nulls.
    """
    kept = {key: value for key, value in schema.items() if key != "anyOf"}
    for choice in schema.get("anyOf", ()):
        if choice.get("type") != "null":
            kept = {**choice, **kept}
    if isinstance(kept.get("default"), dict):
        kept["default"] = {k: value for k, value in kept["default"].items() if value is not None}
    if kept.get("default", ...) is None:
        del kept["default"]
    return kept
