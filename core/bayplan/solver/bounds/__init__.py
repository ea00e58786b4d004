"""What no placement can beat, proved node by node, and placements that the proofs lead to."""
