"""The planner process: watches, solves when a plan is due, and publishes PackingPlans."""
