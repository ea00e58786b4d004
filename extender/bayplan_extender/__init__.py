"""The extender package: the planner, the scheduler webhook, and the command line."""
