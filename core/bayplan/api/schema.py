"""Kubernetes' own words in a schema, which JSON schema does not have: rules, list keys.

The kinds hand these to pydantic as `json_schema_extra`; they reach the CRD as they are.
"""

from pydantic.config import JsonDict


def rule(condition: str, *, message: str, field: str = "", reason: str = "") -> JsonDict:
    """Return one CEL rule.

    Args:
        condition: CEL over `self`; true means valid.
        message: What is wrong and what to do, for the person at the keyboard.
        field: The field to blame, relative to `self`, e.g. ".ratio.prefill".
        reason: The machine-readable cause, e.g. "FieldValueForbidden". Not
            "FieldValueDuplicate": the API server leaves out the message then.
    """
    optional = {"fieldPath": field, "reason": reason}
    return {
        "rule": condition,
        "message": message,
        **{key: value for key, value in optional.items() if value},
    }


def rules(*each: JsonDict) -> JsonDict:
    """Return the schema extension that holds these rules."""
    return {"x-kubernetes-validations": list(each)}


def list_map(*keys: str) -> JsonDict:
    """Return the schema extension of a list whose items are told apart by `keys`.

    Server-side apply then merges item by item, so that two writers can share the list.
    """
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
