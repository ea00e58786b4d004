"""Who was refused is known to whoever plans: planner, command line and recordings."""

from dataclasses import replace

from bayplan.codec import Recording, recording_document, recording_of
from bayplan.plan import plan_digest
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.preparation import prepared
from tests.builders import node, snapshot
from tests.scenes.recalls import AT, SINGLE, TOLD, made_by_web


def test_a_recorded_pass_knows_who_was_refused() -> None:
    """Made again elsewhere, the plan placed a pod that the planner had held."""
    told = replace(TOLD, recalled=(SINGLE,))
    seen = snapshot(node("n1"), made_by_web("b"))
    there = prepared(seen, Policy(), plans=[told], now=AT + 1)
    result = plan(there, Policy(), clock=lambda: 0.0)
    assert result.plan.holds
    recording = Recording(
        snapshot=there,
        policy=Policy(),
        seed=0,
        digest=result.digest,
        plan_digest=plan_digest(result.plan),
    )

    read = recording_of(recording_document(recording))

    again = plan(read.snapshot, read.policy, clock=lambda: 0.0)
    assert again.plan == result.plan
    assert (again.digest, plan_digest(again.plan)) == (recording.digest, recording.plan_digest)
