"""Where the programs listen: on all addresses, of IPv4 and of IPv6.

Given a host, servers listen on one family of addresses; pods of a cluster have either, or both.
"""

import contextlib
import socket
from typing import Final

#: Connections that may wait to be accepted.
_BACKLOG: Final = 2048


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a host's address.

    Without a host, on all addresses: of IPv6 as well, unless that is switched off.

    Raises:
        OSError: The port is taken, or the host's address is not ours.
    """
    if not host and socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(
                ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
            )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)
