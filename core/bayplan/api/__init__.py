"""The Kubernetes API of Bayplan: its resource types and the names it writes."""
