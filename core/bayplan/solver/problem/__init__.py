"""What is asked and what an answer is: the cluster with what is alike counted, and the goals.

`counting` makes an `instance` of a snapshot, engines make an `assignment` of it, and `extract`
names the pods again. Nothing here looks for a placement.
"""
