"""An API server in memory that behaves like the real one where the operator depends on it."""

import copy
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

from kubernetes.client.exceptions import ApiException

from bayplan_operator.cluster.events import About, Events
from bayplan_operator.cluster.kube import Kube

Raw = dict[str, Any]


class FakeKube(Kube):
    """Objects by path; remembers who wrote what.

    Attributes:
        objects: What there is.
        writes: Verb and path of each write that was tried, in order.
        refusals: Status and message with which writes to a path are refused.
        ahead_s: By how many seconds the operator's clock is ahead of this API server's.
    """

    ahead_s = 0.0

    def __init__(self, objects: dict[str, Raw] | None = None) -> None:
        self.objects = dict(objects or {})
        self.writes: list[str] = []
        self.refusals: dict[str, tuple[int, str]] = {}
        self.version = 100
        self._applied: dict[tuple[str, str], frozenset[str]] = {}
        self._lock = threading.Lock()

    def get(self, path: str) -> Raw | None:
        """Return a copy of an object."""
        return copy.deepcopy(self.objects.get(path))

    def items(self, path: str, *, labels: str = "", fields: str = "") -> list[Raw]:
        """Return copies of the objects below a path, of all namespaces if it names none.

        Those of Kubernetes' own kinds do not say what they are.
        """
        head, _, kind = path.rpartition("/")
        found = [
            raw
            for at, raw in sorted(self.objects.items())
            if at.startswith(head) and f"/{kind}/" in at
        ]
        unsaid = {"apiVersion", "kind"} if path.startswith("/api/v1/") else set()
        return [
            {key: value for key, value in copy.deepcopy(raw).items() if key not in unsaid}
            for raw in found
            if _labelled(raw, labels) and _on(raw, fields)
        ]

    def pages(self, path: str, *, labels: str = "", fields: str = "") -> Iterator[Raw]:
        """Yield copies of the objects below a path."""
        yield from self.items(path, labels=labels, fields=fields)

    def each(self, path: str, take: Callable[[Raw], None]) -> str:
        """Hand over copies of the objects below a path."""
        for raw in self.pages(path):
            take(raw)
        return str(self.version)

    def count(self, path: str) -> int:
        """Return how many objects there are below a path."""
        return sum(1 for _ in self.pages(path))

    def create(self, path: str, body: Raw, *, manager: str = "") -> Raw:
        """Keep an object, or evict a pod."""
        if path.endswith("/eviction"):
            if "dryRun" in body["deleteOptions"]:
                return self._rehearse(path)
            self._write("create", path)
            return self._evict(path.removesuffix("/eviction"), body)
        path = f"{path}/{body['metadata']['name']}"
        self._write(f"create as {manager}", path)
        if path in self.objects:
            raise error(409, "it exists already")
        return self._put(path, body)

    def apply(self, path: str, body: Raw, *, manager: str, force: bool = True) -> int:
        """Keep an object, or replace the status of one."""
        _ = force
        self._write(f"apply as {manager}", path)
        if path.endswith("/status"):
            owner = path.removesuffix("/status")
            known = self._existing(owner, body["metadata"].get("uid"))
            status = body["status"]
            if "/pods/" in owner:
                status = _merged(known, status)
            elif "/packingplans/" in owner:  # two write it, each fields of its own
                mine = self._applied.get((owner, manager), frozenset())
                self._applied[owner, manager] = frozenset(status)
                before = known.get("status") or {}
                status = {key: before[key] for key in before if key not in mine} | status
            path, body = owner, {**self.objects[owner], "status": status}
        return int(self._put(path, body)["metadata"]["resourceVersion"])

    def merge(self, path: str, body: Raw, *, manager: str, rehearse: bool = False) -> None:
        """Merge labels and annotations into an object; None removes one."""
        self._write("rehearse" if rehearse else f"merge as {manager}", path)
        known = copy.deepcopy(self._existing(path, body["metadata"].get("uid")))
        version = known["metadata"]["resourceVersion"]
        if body["metadata"].get("resourceVersion", version) != version:
            raise error(409, "the object has been modified")
        if rehearse:
            return
        for kind in ("labels", "annotations"):
            said = known["metadata"].get(kind, {}) | body["metadata"].get(kind, {})
            known["metadata"][kind] = {k: v for k, v in said.items() if v is not None}
        self._put(path, known)

    def patch(self, path: str, body: Raw, *, manager: str, rehearse: bool = False) -> None:
        """Apply a strategic merge patch of a pod, or refuse it if it would be refused."""
        self._write("rehearse" if rehearse else f"patch as {manager}", path)
        patched = apply_patch(self._existing(path), body)
        if patched["metadata"]["resourceVersion"] != self.objects[path]["metadata"].get(
            "resourceVersion"
        ):
            raise error(409, "the object has been modified")
        if not rehearse:
            self._put(path, patched)

    def delete(self, path: str, *, uid: str, version: str = "", grace_s: int | None = None) -> bool:
        """Remove an object if it is still that one, and as it was if that is asked for."""
        _ = grace_s
        self._write("delete", path)
        if path not in self.objects:
            return True
        metadata = self.objects[path]["metadata"]
        if metadata["uid"] != uid or version not in {"", metadata["resourceVersion"]}:
            return False
        del self.objects[path]
        return True

    def add(self, path: str, raw: Raw) -> Raw:
        """Put an object there, as somebody else would."""
        return self._put(path, raw)

    def _write(self, verb: str, path: str) -> None:
        with self._lock:
            self.writes.append(f"{verb} {path}")
        if path in self.refusals:
            raise error(*self.refusals[path])

    def _existing(self, path: str, uid: str | None = None) -> Raw:
        if path not in self.objects:
            raise error(404, "not found")
        if uid and self.objects[path]["metadata"].get("uid") != uid:
            raise error(409, "uid mismatch")
        return self.objects[path]

    def _rehearse(self, path: str) -> Raw:
        """Refuse what would be refused, and change nothing."""
        self._write("rehearse", path)
        return {}

    def _evict(self, path: str, body: Raw) -> Raw:
        wanted = body["deleteOptions"]["preconditions"]
        known = self._existing(path, wanted["uid"])
        version = known["metadata"]["resourceVersion"]
        if wanted.get("resourceVersion", version) != version:
            raise error(409, "the object has been modified")
        metadata = known["metadata"] | {"deletionTimestamp": "2026-05-01T12:00:00Z"}
        return self._put(path, {**known, "metadata": metadata})

    def _put(self, path: str, raw: Raw) -> Raw:
        with self._lock:
            self.version += 1
            metadata = {"uid": f"uid-{raw['metadata']['name']}", **raw["metadata"]}
            metadata["resourceVersion"] = str(self.version)
            self.objects[path] = copy.deepcopy({**raw, "metadata": metadata})
            return copy.deepcopy(self.objects[path])


class Told(Events):
    """Keeps events instead of writing them."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def tell(  # noqa: PLR0913 - as in Events
        self,
        about: About,
        reason: str,
        action: str,
        note: str,
        *,
        warning: bool = False,
        once: str = "",
    ) -> None:
        """Keep an event."""
        _ = action, warning, once
        self.notes.append(f"{about.kind} {about.name} {reason}: {note}")


def apply_patch(raw: Raw, patch: Raw) -> Raw:
    """Return the object after a strategic merge patch, as far as patches of pods use it.

    Maps are merged, where None removes what is there, and lists are replaced, but for entries that
    are deleted by their name.
    """
    patched = copy.deepcopy(raw)
    for key, value in copy.deepcopy(patch).items():
        if value is None:
            patched.pop(key, None)
        elif isinstance(value, dict):
            patched[key] = apply_patch(patched.get(key) or {}, value)
        elif isinstance(value, list) and any("$patch" in entry for entry in value):
            gone = {entry["name"] for entry in value if entry.pop("$patch") == "delete"}
            patched[key] = [entry for entry in patched.get(key, ()) if entry["name"] not in gone]
        else:
            patched[key] = value
    return patched


def error(status: int, message: str) -> ApiException:
    """Return what the client raises for an answer."""
    made: ApiException = ApiException(
        status=status, reason="refused", body=json.dumps({"message": message})
    )
    return made


def _merged(raw: Raw, status: Raw) -> Raw:
    """Return a pod's status, of which others write a part, with some conditions set."""
    before = raw.get("status") or {}
    conditions = {c["type"]: c for c in (*before.get("conditions", ()), *status["conditions"])}
    return {**before, "conditions": list(conditions.values())}


def _labelled(raw: Raw, selector: str) -> bool:
    labels = raw["metadata"].get("labels") or {}
    terms = [term for term in selector.split(",") if term]
    if any(term.startswith("!") and term[1:] in labels for term in terms):
        return False
    terms = [term for term in terms if not term.startswith("!")]
    unwanted = (term.split("!=") for term in terms if "!=" in term)
    wanted = (term.split("=") for term in terms if "!=" not in term)
    return all(labels.get(key) == value for key, value in wanted) and not any(
        labels.get(key) == value for key, value in unwanted
    )


def _on(raw: Raw, selector: str) -> bool:
    spec = raw.get("spec") or {}
    said = {f"spec.{field}": spec.get(field, "") for field in ("nodeName", "schedulerName")}
    terms = [term.partition("=") for term in selector.split(",") if term]
    return all(
        said[field.removesuffix("!")] != value if field.endswith("!") else said[field] == value
        for field, _, value in terms
    )
