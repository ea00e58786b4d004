"""What the operator tells Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Histogram


class Metrics:
    """The operator's figures, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.pass_seconds = Histogram(
            "bayplan_operator_pass_duration_seconds",
            "Time to look at one thing and act on it.",
            ["kind"],
            registry=self.registry,
        )
        self.plan_steps = Counter(
            "bayplan_plan_steps_total",
            "Steps of plans that were tried, by type and result.",
            ["type", "result"],
            registry=self.registry,
        )
        self.gates_lifted = Counter(
            "bayplan_gates_lifted_total",
            "Gates lifted without a plan because no planner was alive.",
            registry=self.registry,
        )
