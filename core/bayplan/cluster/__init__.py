"""What a cluster is: nodes, pods, what they have and ask for, all frozen and in integers."""
