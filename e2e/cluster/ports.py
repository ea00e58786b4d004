"""Hand out TCP ports on loopback that nobody else will take.

A port found free by binding to 0 can be gone before the server that needs it starts.
So ports come from below the range the kernel gives to outgoing connections, and each is
claimed, for as long as its lease lives, by an abstract socket that only one process can hold.
"""

import random
import socket
from dataclasses import dataclass

_RANGE = range(20000, 32000)  # Linux gives 32768 and up to outgoing connections
_TRIES = 200


@dataclass(frozen=True, slots=True)
class PortLease:
    """A claimed port; keep the lease until the server listens, or as long as the port is used."""

    number: int
    _claim: socket.socket

    def release(self) -> None:
        """Let others have the port."""
        self._claim.close()


def lease_port() -> PortLease:
    """Claim a free port for a server on 127.0.0.1.

    Raises:
        OSError: No free port was found.
    """
    for number in random.sample(_RANGE, _TRIES):
        claim = _claim(number)
        if claim is None:
            continue
        if _is_free(number):
            return PortLease(number, claim)
        claim.close()
    raise OSError(f"no free port among {_TRIES} tried between {_RANGE.start} and {_RANGE.stop}")


def _claim(number: int) -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0bayplan-port-{number}")
    except OSError:
        claim.close()
        return None
    return claim


def _is_free(number: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return False
    return True
