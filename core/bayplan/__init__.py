"""The pure core of Bayplan: what is decided, and why.

No I/O, clock, logging, thread or unseeded randomness: the shells (`bayplan_operator`,
`bayplan_extender`) read the cluster, call in here, and write what comes back.
"""
