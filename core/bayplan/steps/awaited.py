"""Who is to leave a node before there is room for a home, in words: somebody may have to help."""

from bayplan.cluster.keys import NodeName
from bayplan.cluster.resources import Resources
from bayplan.steps.ledger import Ledger
from bayplan.steps.progress import clock, hanging


def left_by(ledger: Ledger, name: NodeName) -> tuple[str, bool]:
    """Return who is to leave a node, in words to stand after it, and whether one of them hangs.

    Until when is told if it is known, and of who hangs only where the room is needed: what is
    `due` must be without the home that is waited for. The words change with who is there alone,
    for they are written.
    """
    hung = {pod.key: why for pod in ledger.going[name] if (why := hanging(pod, ledger.now))}
    stuck = [pod for pod in ledger.going[name] if pod.key in hung]
    if stuck and not sum((pod.requests for pod in stuck), Resources()).fits(ledger.due[name]):
        return f", on which {stuck[0].key} {hung[stuck[0].key]}", True
    going = [pod for pod in ledger.going[name] if pod.key not in hung]
    if not going:
        return "", False
    first, more = going[0].key, len(going) - 1
    who = f", which {first} and {more} more" if more else f", which {first}"
    if not all(pod.terminating for pod in going):
        return f"{who} {'are' if more else 'is'} to leave first", False
    last = clock(max(pod.leaves_at for pod in going))
    return f"{who} {'leave' if more else 'leaves'} by {last} at most", False
