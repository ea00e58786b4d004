"""Why pods wait, told once for all that wait for the same."""

from collections.abc import Iterable, Sequence

from bayplan.plan import Hold


def grouped(holds: Iterable[Hold]) -> list[list[Hold]]:
    """Return the holds with the same words together, the most frequent first."""
    groups: dict[tuple[str, str, str], list[Hold]] = {}
    for hold in holds:
        why = (hold.rejection.reason.value, hold.rejection.message, hold.remedy)
        groups.setdefault(why, []).append(hold)
    return sorted(groups.values(), key=lambda held: -len(held))


def helps(held: Sequence[Hold]) -> list[str]:
    """Return what would help pods with the same words, as no line or one.

    What is said of a pod stands for that pod alone, and of a gang for all of it.
    """
    first = held[0]
    together = len(held) == 1 or (first.gang and all(hold.gang == first.gang for hold in held))
    whom = "" if together else " one of them"
    return [f"would help{whom}: {first.remedy}"] if first.remedy else []
