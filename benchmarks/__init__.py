"""One module per claim: each prints its figures as one line of JSON, last."""
