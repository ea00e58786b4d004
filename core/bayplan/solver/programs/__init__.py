"""Linear and integer programs as arrays: their optima by GLOP, their whole points by CP-SAT.

Nothing here knows of pods and nodes: columns are numbers, and many of them choices of a group.
"""
