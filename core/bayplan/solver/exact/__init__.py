"""The model of every pod class on every node by CP-SAT: all rules and all goals.

It is asked about whole clusters where these are small, and about windows of larger ones.
"""
