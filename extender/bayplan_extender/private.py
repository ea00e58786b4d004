"""Answers that are only for people who may reach into our pod.

What we know of the whole cluster is more than any network neighbour should see. A connection from
the pod itself is what `kubectl port-forward` makes, and who may use that is for the API server to
say.
"""

from ipaddress import ip_address

from fastapi import HTTPException, Request

_FORBIDDEN = 403


def from_loopback(request: Request) -> None:
    """Let a request pass that comes from the pod itself.

    Raises:
        HTTPException: It comes from elsewhere.
    """
    try:
        ours = request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        ours = False
    if not ours:
        raise HTTPException(_FORBIDDEN, "ask through kubectl port-forward")
