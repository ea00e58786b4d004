"""Names that Bayplan writes into a cluster: API group, labels, gate, field managers.

Everything that two programs must agree on by name stands here once.
"""

from typing import Final

GROUP: Final = "bayplan.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

#: The kind that makes pods which can be taken out of service, and doubled.
KIND_DEPLOYMENT: Final = "InferenceDeployment"

#: The scheduler that pods ask for to be placed by a plan.
SCHEDULER: Final = "bayplan"

#: The scheduling gate behind which a pod waits for its plan.
GATE: Final = f"{GROUP}/plan"

#: The condition of our pods that is False while they finish their requests and take no new ones.
CONDITION_IN_SERVICE: Final = f"{GROUP}/in-service"

#: On a node of which somebody's health checker knows that its GPUs are broken, with any value but
#: "false"; stands as a taint in snapshots.
LABEL_UNHEALTHY: Final = f"{GROUP}/unhealthy"

#: On every pod that goes through us, ours and foreign: what the operator's watch selects.
LABEL_MANAGED: Final = f"{GROUP}/managed"

#: On the pods of an InferenceDeployment.
LABEL_DEPLOYMENT: Final = f"{GROUP}/deployment"
LABEL_POOL: Final = f"{GROUP}/pool"
LABEL_ROLE: Final = f"{GROUP}/role"
LABEL_UNIT: Final = f"{GROUP}/unit"
LABEL_REPLICA: Final = f"{GROUP}/replica"
LABEL_REVISION: Final = f"{GROUP}/revision"

#: "true" on one pod of each unit: to count these is to count units.
LABEL_REPRESENTS: Final = f"{GROUP}/represents-unit"

#: Which pod of its replica a pod is, 0 for the leader; of how many, where there are several.
LABEL_WORKER: Final = f"{GROUP}/worker-index"
LABEL_REPLICA_SIZE: Final = f"{GROUP}/pods-per-replica"

#: Read by gateways of llm-d: "prefill", "decode" or "both", on pods that take requests.
LABEL_LLMD_ROLE: Final = "llm-d.ai/role"

#: A set of pods that is placed whole: its name, and how many pods make it whole.
LABEL_GANG: Final = f"{GROUP}/gang"
LABEL_GANG_MIN_COUNT: Final = f"{GROUP}/gang-min-count"

#: On the pods of a LeaderWorkerSet: of which of its groups a pod is, and how many pods each has.
LABEL_LWS_GROUP: Final = "leaderworkerset.sigs.k8s.io/group-index"
ANNOTATION_LWS_SIZE: Final = "leaderworkerset.sigs.k8s.io/size"

#: How many gangs of one owner are needed: these come before others of their tier, and go after.
LABEL_MIN_UNITS: Final = f"{GROUP}/min-units"

#: On the pods of a gang: the node label of which all must share a value, and those of which they
#: had better (comma-separated, the dearest first).
ANNOTATION_TOPOLOGY_REQUIRED: Final = f"{GROUP}/gang-topology-required"
ANNOTATION_TOPOLOGY_PREFERRED: Final = f"{GROUP}/gang-topology-preferred"

#: Why a waiting pod waits; written by the operator, bounded to one sentence.
ANNOTATION_DECISION: Final = f"{GROUP}/decision"

#: Which plan gave a pod its node, and the uid of the moved pod whose place it took.
ANNOTATION_PLAN: Final = f"{GROUP}/placed-by"
ANNOTATION_REPLACES: Final = f"{GROUP}/replaces"

#: On a pod that starts before the one that it replaces goes: by when it is to serve, or it is
#: removed again. On that other pod: the same instant, as long as there is such a replacement.
ANNOTATION_SERVES_BY: Final = f"{GROUP}/serves-by"
ANNOTATION_GIVES_WAY_BY: Final = f"{GROUP}/gives-way-by"

#: On a pod that serves on because its replacement did not come to serve: the plan that would have
#: moved it, and when that was given up.
ANNOTATION_MOVE_FAILED: Final = f"{GROUP}/move-failed"

#: On a pod whose gate was lifted without a pin, so that node autoscalers see that it does not fit:
#: the node that a plan gives it later, and nothing as long as there is none.
ANNOTATION_HOME: Final = f"{GROUP}/home"

#: What a move of a pod costs, 1 to 100 (one for each half minute that it takes to start).
ANNOTATION_MOVE_COST: Final = f"{GROUP}/move-cost"

#: "true" on the pods of a deployment that are of an older template: nobody could make one of them
#: again, and a unit that lacks one is of no use, so that a plan moves none of them.
ANNOTATION_OUTDATED: Final = f"{GROUP}/outdated"

#: On the pods of a deployment: replicas of each pool that make the unit whole as it is now, such as
#: "decode=2,prefill=1". It lags behind the spec until a unit has come to a new ratio.
ANNOTATION_SHAPE: Final = f"{GROUP}/unit-shape"

#: The part of one GPU that a pod asks for, e.g. "0.5"; KAI Scheduler and Run:ai know it, too.
ANNOTATION_GPU_SHARE: Final = "gpu-fraction"

#: The number of the GPU on which a pod has its share: equal numbers on a node are one GPU.
ANNOTATION_GPU_DEVICE: Final = f"{GROUP}/gpu-device"

#: With these annotations and values a pod is never moved or evicted; others know them too.
DO_NOT_DISRUPT: Final = {
    "karpenter.sh/do-not-disrupt": "true",
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
}

#: Field managers, one per concern.
MANAGER_PODS: Final = "bayplan-operator"
MANAGER_NETWORK: Final = "bayplan-operator-network"
MANAGER_STATUS: Final = "bayplan-operator-status"
MANAGER_SERVICE: Final = "bayplan-operator-service"
MANAGER_STEPS: Final = "bayplan-operator-steps"
MANAGER_RECALLS: Final = "bayplan-operator-recalls"
MANAGER_PLANS: Final = "bayplan-planner"

#: The Lease of the leading planner, in the release's namespace.
PLANNER_LEASE: Final = "bayplan-planner"

#: On that lease, while whoever leads has made no good pass: `PASSES_AWAITED` when those before made
#: one, `PASSES_FAIL` when they did not either, or a pass has failed.
ANNOTATION_PASSES: Final = f"{GROUP}/passes"
PASSES_AWAITED: Final = "awaited"
PASSES_FAIL: Final = "fail"
