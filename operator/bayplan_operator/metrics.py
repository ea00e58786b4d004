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
        self.victims = Counter(
            "bayplan_victims_total",
            "Pods that were asked to leave, by what becomes of them: moved or evicted.",
            ["fate"],
            registry=self.registry,
        )
        self.plans = Counter(
            "bayplan_plans_ended_total",
            "Plans that came to an end, by phase.",
            ["phase"],
            registry=self.registry,
        )
        self.plan_seconds = Histogram(
            "bayplan_plan_execution_seconds",
            "Time from the making of a plan to the end of its last step.",
            registry=self.registry,
            buckets=(0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800),
        )
        self.pods_offered = Counter(
            "bayplan_pods_offered_total",
            "Pods that do not fit, shown to node autoscalers.",
            registry=self.registry,
        )
        self.patches_failed = Counter(
            "bayplan_pod_patches_failed_total",
            "Pods that could not be told why they wait, or whose gate could not be lifted.",
            ["purpose"],
            registry=self.registry,
        )
        self.gates_lifted = Counter(
            "bayplan_gates_lifted_total",
            "Gates lifted without a plan because no planner was alive.",
            registry=self.registry,
        )
