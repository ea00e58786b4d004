"""Pod objects to `Pod` values.

What a pod asks for, whether it waits for us, where it is or is pinned to, and what a plan may do
to it: all read from the pod alone, so that every program sees the same.
"""

from bayplan.codec.pods.gangs import selector_of
from bayplan.codec.pods.pod import ended_member_of, pod_of, stand_in_of
from bayplan.codec.pods.status import bound_at_of, rejection_of

__all__ = ["bound_at_of", "ended_member_of", "pod_of", "rejection_of", "selector_of", "stand_in_of"]
