"""Finds placements: a greedy one always, a proved one where that can be had in time.

`portfolio.search` is what the planner calls. It asks `engine`, which chooses among the engines:
`keepfill` counts, `search` goes stage by stage through `local`, `bounds` and `exact`. All of them
answer with the values of `problem`, and what they know of linear and integer programs is in
`programs`.
"""
