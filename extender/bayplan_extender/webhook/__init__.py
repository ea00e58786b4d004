"""The scheduler extender's HTTP side: answers kube-scheduler from memory, never solves."""
