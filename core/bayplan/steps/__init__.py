"""Carrying out a plan, one safe step at a time.

    victims:  Waiting ──drain──▶ Draining ──idle──▶ Waiting ──evict──▶ Started ──▶ gone
                                                            ┌────────────────────────┘
                                                            ▼ move: its owner makes a new pod
    moves:    Waiting ──room is free, owner allows it──▶ Starting (the replacement) ──serves──▶ gone
    homes:    Waiting ──room is free, whole gang──▶ Started (gate lifted, pinned) ──▶ Done (bound)

`advance` compares a plan with the cluster as it is now and says what to do next and how far each
action is. It keeps no memory: everything it needs is in the plan and on the pods, so it can be
asked again after any crash. The operator does the steps and asks again.

Nobody is disturbed in vain: a victim is asked to leave only while every home that the plan
promises is still there, counting the room that is to come, and while each PodDisruptionBudget
admits all of the victims that it covers. Once a home is not there, no further victim goes, what has
begun is finished (a gang of which one has left goes whole), and the plan ends as failed. Once the
window has closed for which a plan was made, it ends in the same way, but as completed: moves that
have not begun are given up, unless somebody who waits or has left needs their room.

A victim that serves is taken out of service before it is evicted, and gets the time to finish its
requests that its owner allows; that is no standstill. Until it is evicted it may be put back: when
its room is not needed any more, or the plan cannot be completed. A gang drains as a whole, for
whoever has no requests now may get some from the others.

Where its owner allows that, and its room is free, the replacement of a moved pod starts first
(`surges`). What follows is no longer the plan's: the pods say what they are for, and the owner sees
to the rest.
"""

from bayplan.steps.advance import advance, nodes_of
from bayplan.steps.homes import REPLACEMENT_GRACE_S
from bayplan.steps.ledger import LEAVING_STALL_S, STALL_S, source_of
from bayplan.steps.progress import (
    GIVEN_UP,
    HANGS,
    SPARED,
    DrainPod,
    EvictPod,
    Phase,
    Progress,
    ReleasePod,
    Report,
    ServePod,
    StartPod,
    State,
    Step,
    arrived,
    clock,
    hanging,
    is_left_to_scheduler,
    with_refusals,
)
from bayplan.steps.surges import SurgeContext

__all__ = [
    "GIVEN_UP",
    "HANGS",
    "LEAVING_STALL_S",
    "REPLACEMENT_GRACE_S",
    "SPARED",
    "STALL_S",
    "DrainPod",
    "EvictPod",
    "Phase",
    "Progress",
    "ReleasePod",
    "Report",
    "ServePod",
    "StartPod",
    "State",
    "Step",
    "SurgeContext",
    "advance",
    "arrived",
    "clock",
    "hanging",
    "is_left_to_scheduler",
    "nodes_of",
    "source_of",
    "with_refusals",
]
