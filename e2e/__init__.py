"""End-to-end tests, and the clusters that they and the demo run on."""
