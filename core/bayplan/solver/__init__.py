"""Finds placements: a greedy one always, a proved one where the model is small enough.

`engine.solve` is what the planner calls. Data is made ready in `instance`; `goals` holds the
order of objectives; `greedy`, `cpsat` and `bound` work on arrays; `extract` names pods again.
"""
