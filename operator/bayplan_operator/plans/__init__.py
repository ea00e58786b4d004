"""PackingPlans: known as they stand, and carried out step by step."""
