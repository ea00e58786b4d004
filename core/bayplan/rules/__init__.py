"""Who may be where beside whom, and who is to be let alone: asked by all that decides or judges."""
