"""The base of the kinds: `kube_custom_resource.CustomResource`, as a type checker may see it.

The library computes its metaclass at run time, which mypy takes for a conflict in every class
that stands on it; so the checker gets the same fields and class arguments in plain words.
"""

from typing import TYPE_CHECKING, TypedDict

from kube_custom_resource.custom_resource import Metadata, Scope
from kube_custom_resource.schema import BaseModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    class CustomResource(BaseModel):
        """A Kubernetes object."""

        api_version: str
        kind: str
        metadata: Metadata

        def __init_subclass__(  # noqa: PLR0913 - the library's class arguments
            cls,
            *,
            version: str,
            scope: Scope,
            short_names: list[str],
            printer_columns: "Sequence[Column]",
            subresources: dict[str, dict[str, str]] | None = None,
            plural_name: str | None = None,
        ) -> None: ...

else:
    from kube_custom_resource.custom_resource import CustomResource

__all__ = ["Column", "CustomResource", "Scope", "column"]


class Column(TypedDict):
    """One column of `kubectl get`."""

    name: str
    type: str
    jsonPath: str
    description: str


def column(name: str, path: str, description: str, *, kind: str = "string") -> Column:
    """Return a column of `kubectl get`; kubectl writes its name in capitals.

    Args:
        name: The heading.
        path: Where the value is, e.g. ".status.ready".
        description: What the value means.
        kind: OpenAPI type of the value.
    """
    return {"name": name, "type": kind, "jsonPath": path, "description": description}
