"""What can be wrong with a plan."""

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """What is wrong with a plan."""

    UNKNOWN_POD = "UnknownPod"
    UNKNOWN_NODE = "UnknownNode"
    UID_MISMATCH = "UidMismatch"
    MISDESCRIBED = "Misdescribed"
    NOT_ONCE = "NotDecidedOnce"
    WRONG_STATE = "WrongState"
    NODE_REFUSES = "NodeRefuses"
    OVER_COMMITTED = "OverCommitted"
    WRONG_DEVICE = "WrongDevice"
    NOT_DISRUPTABLE = "NotDisruptable"
    PEERS_BROKEN = "RuleBetweenPodsBroken"
    GANG_SPLIT = "GangSplit"
    GANG_SCATTERED = "GangScattered"
    OUTRANKED_VICTIM = "OutrankedVictim"
    OVER_BUDGET = "OverBudget"
    WRONG_OBJECTIVE = "WrongObjective"
    WRONG_STAGES = "WrongStages"
    WRONG_VERDICT = "WrongVerdict"
    NO_GAIN = "NoGain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken rule: a code for programs, a sentence for people."""

    code: Code
    message: str


def wrong(code: Code, message: str) -> Violation:
    """Return a broken rule."""
    return Violation(code=code, message=message)
