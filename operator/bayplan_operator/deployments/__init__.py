"""InferenceDeployments: their pods, Services and statuses are kept as they are declared."""
