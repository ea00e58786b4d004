"""The operator: keeps InferenceDeployments' pods as declared and carries out PackingPlans."""
