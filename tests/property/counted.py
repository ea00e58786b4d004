"""Plans that are made by counting node states, however small the cluster."""

from unittest import mock

from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Result
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.solver import engine
from bayplan.solver.programs import program
from tests.property.plans import frozen


def made(snapshot: Snapshot, policy: Policy, *, sifted: bool = False) -> Result:
    """Return the plan of keep and fill, with `sifted` as if its programs were large."""
    with (
        mock.patch.object(engine, "MIN_VARIABLES", 0),
        mock.patch.object(program, "_MANY", 0 if sifted else 10**9),
    ):
        return plan(snapshot, policy, clock=frozen)
