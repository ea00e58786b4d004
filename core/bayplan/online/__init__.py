"""Scores nodes for pods that arrive one by one without a plan.

`kinds` says what pods ask for and how much each kind counts, `value` what free room is worth to
them, and `scorer` where a pod does the least harm. It needs numpy and never OR-Tools, so that the
webhook may import it; what is decided here is advice to kube-scheduler and never part of a plan.
"""
