"""Whatever anybody writes into labels and annotations, a decoder reads it or says what is wrong."""

from collections.abc import Callable
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from bayplan.api import names
from bayplan.api.pools import MAX_UNIT
from bayplan.codec import DecodeError, mistake_in, pod_of, stand_in_of
from bayplan.codec.deployments import child_of
from bayplan.inference.shapes import Shape

LABELS = [value for name, value in vars(names).items() if name.startswith("LABEL_")]
ANNOTATIONS = [value for name, value in vars(names).items() if name.startswith("ANNOTATION_")]

#: What decoders of numbers, instants and lists may stumble over, beside arbitrary text.
texts = st.text(max_size=20) | st.sampled_from(
    [
        *("0.5", "1e999999999", "1e-999999999", "1e999990E", "NaN", "Infinity", "-1", "٣", "²"),
        *("9" * 17, "9" * 5000, "decode=1", "decode=" + "9" * 17, "=", "a=1,,", "\ud800"),
        *("2026-01-31T12:00:00Z", "99999-01-01T00:00:00Z", "0000-00-00T00:00:00Z"),
    ]
)


@given(
    labels=st.dictionaries(st.sampled_from(LABELS), texts, max_size=4),
    annotations=st.dictionaries(st.sampled_from(ANNOTATIONS), texts, max_size=4),
    bound=st.booleans(),
)
@example(labels={}, annotations={names.ANNOTATION_GPU_SHARE: "1e999999999"}, bound=False)
@example(labels={}, annotations={names.ANNOTATION_MOVE_COST: "9" * 5000}, bound=True)
@example(labels={}, annotations={names.ANNOTATION_SHAPE: "decode=" + "9" * 17}, bound=True)
def test_a_pod_is_read_or_refused(
    labels: dict[str, str], annotations: dict[str, str], *, bound: bool
) -> None:
    """Never anything else: one pod must not stop planner, webhook and operator."""
    asks = {"requests": {"cpu": "1"}}
    spec: dict[str, Any] = {"containers": [{"name": "a", "image": "b", "resources": asks}]}
    if bound:
        spec["nodeName"] = "n1"
    metadata = {"name": "web-0", "namespace": "ns", "uid": "u"}
    raw = {"metadata": {**metadata, "labels": labels, "annotations": annotations}, "spec": spec}

    for decode in (pod_of, child_of, mistake_in, stand_in_of):
        found = _read(decode, raw)
        assert not isinstance(found, DecodeError) or "web-0" in str(found)
        shape = getattr(found, "shape", Shape())
        assert all(n <= MAX_UNIT for _, n in shape.counts)


def _read(decode: Callable[[dict[str, Any]], object], raw: dict[str, Any]) -> object:
    """Return what is decoded, or the complaint."""
    try:
        return decode(raw)
    except DecodeError as error:
        return error
