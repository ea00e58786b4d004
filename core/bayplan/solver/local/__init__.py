"""From one valid placement to a better one, step by step: these can be ended at any moment.

`greedy` makes the first placement; `ejection`, `exchange`, `splits` and `repair` yield ever better
ones.
"""
