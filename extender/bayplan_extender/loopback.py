"""Requests over loopback: answers that are only for people who may reach into our pod.

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
    if request.client is None or not _is_loopback(request.client.host):
        raise HTTPException(_FORBIDDEN, "ask through kubectl port-forward")


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    # A socket for both families shows an IPv4 address as "::ffff:127.0.0.1".
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
