"""How fast pods are bound with our extender, with an empty one, and with none."""
