"""What the four kinds share: what a run gets, and how it is queued, restarted and watched."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from m2r_train.api.schema import (
    MAX_INT,
    Count,
    Endpoint,
    Image,
    Model,
    ObjectName,
    PositiveCount,
    QualifiedName,
    Quantity,
    Rule,
    Seconds,
    ShortText,
    StoreUri,
    Word,
    no_secret,
)

Engine = Literal["vllm", "inprocess"]
Schedule = Literal["Cosine", "Linear", "Constant"]
_UNITS: Final = {
    "m": Decimal("0.001"),
    "": Decimal(1),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTP", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTP", start=1)},
}


def parse_quantity(text: str) -> Decimal:
    """A Kubernetes quantity as a number: "500m" -> 0.5, "64Gi" -> 68719476736."""
    number = text.rstrip("mkMGTPKi")
    return Decimal(number) * _UNITS[text[len(number) :]]


class SecretRef(Model):
    """A Secret in the same namespace; its values never pass through a manifest."""

    name: ObjectName = Field(description="Name of the Secret.")


class EndpointRef(Model):
    """A model behind an OpenAI-compatible chat endpoint."""

    url: Endpoint = Field(
        description="Base address, such as https://host/v1; /chat/completions is added."
    )
    model: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        description="Model as the endpoint names it."
    )
    secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret whose API_KEY the endpoint is shown; left out: no key.",
    )
    timeout_seconds: Seconds = Field(
        default=300, description="Time for one whole answer, after which it is asked for again."
    )
    retries: Annotated[int, Field(ge=0, le=100)] = Field(
        default=8, description="Further tries of a request that came to nothing."
    )
    concurrency: Annotated[int, Field(ge=1, le=256)] = Field(
        default=8, description="Requests that each pod has under way at a time."
    )
    rules = (no_secret("url", instead="secretRef"), no_secret("model", instead="secretRef"))


API_KEY: Final = "API_KEY"  # where an endpoint's key lies in its Secret


def key_variable(path: str) -> str:
    """The environment variable with the key of the endpoint that ``spec.<path>`` sets.

    ``quality.judge.endpoint`` -> ``M2R_API_KEY_QUALITY_JUDGE_ENDPOINT``.
    """
    return "M2R_API_KEY_" + re.sub(r"[^A-Za-z0-9]+", "_", path).strip("_").upper()


class Storage(Model):
    """Where runs keep checkpoints and results."""

    uri: StoreUri = Field(description="Root under which every run keeps its folder.")
    endpoint: Endpoint | None = Field(
        default=None, description="Address of an S3 server other than AWS."
    )
    region: Word | None = Field(default=None, description="Region of the S3 bucket.")
    secret_ref: SecretRef | None = Field(
        default=None, description="Secret with the S3 credentials; left out: the pod's identity."
    )
    reclaim_policy: Literal["Retain", "Delete"] = Field(
        default="Retain", description="What becomes of the run's folder when the resource goes."
    )
    rules = (no_secret("uri"), no_secret("endpoint"))


class Rdma(Model):
    """Network devices for traffic between nodes."""

    resource: QualifiedName = Field(
        default="rdma/hca", description="Extended resource of the device plugin."
    )
    count: Annotated[int, Field(ge=1, le=64)] = Field(default=1, description="Devices a node.")


class Resources(Model):
    """What each node of the run gets."""

    nodes: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=1, description="Pods that work together, one a node."
    )
    gpus_per_node: Annotated[int, Field(ge=0, le=64)] = Field(
        default=0, description="Accelerators of each pod; 0 computes on the CPU."
    )
    processes_per_node: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None,
        description="Training processes of each pod; left out: one for each accelerator, or one.",
    )
    gpu_resource: QualifiedName = Field(
        default="nvidia.com/gpu", description="Extended resource that an accelerator is asked by."
    )
    cpu: Quantity = Field(
        default="2", description="CPU of each pod; also sets the number of compute threads."
    )
    memory: Quantity | None = Field(
        default=None, description="Memory of each pod in bytes; left out: no request."
    )
    shared_memory: Quantity = Field(
        default="8Gi", description="Upper bound of /dev/shm of each pod in bytes."
    )
    rdma: Rdma | None = Field(default=None, description="RDMA devices of each pod.")
    peak_tflops: Annotated[float, Field(ge=0.001, le=1_000_000)] | None = Field(
        default=None,
        description="Dense TFLOPS of one accelerator at best, for MFU; left out: by its name.",
    )

    @property
    def processes(self) -> int:
        """Training processes of each pod."""
        return self.processes_per_node or max(1, self.gpus_per_node)

    @property
    def cpu_threads(self) -> int:
        """Compute threads: ``cpu`` rounded up, at least 1; the same locally and in a pod."""
        return max(1, math.ceil(parse_quantity(self.cpu)))


class Parallelism(Model):
    """How the processes of a run share a model."""

    strategy: Literal["DataParallel", "Zero1", "Zero2", "Zero3"] = Field(
        default="DataParallel",
        description="All in each process, or ZeRO: shared moments (1), gradients (2), weights (3).",
    )
    offload: Literal["None", "Optimizer", "OptimizerAndParameters"] = Field(
        default="None", description="What ZeRO keeps in the memory of the hosts."
    )
    rules = (
        Rule(
            path="offload",
            cel="self.offload == 'None' || self.strategy != 'DataParallel'",
            message="needs a ZeRO strategy; set strategy to Zero1, Zero2 or Zero3",
            check=lambda p: p.offload == "None" or p.strategy != "DataParallel",
        ),
        Rule(
            path="offload",
            cel="self.offload != 'OptimizerAndParameters' || self.strategy == 'Zero3'",
            message="parameters are shared by Zero3 alone; set strategy to Zero3 or use Optimizer",
            check=lambda p: p.offload != "OptimizerAndParameters" or p.strategy == "Zero3",
        ),
    )


class Toleration(Model):
    """A Kubernetes toleration."""

    key: QualifiedName | None = Field(default=None, description="Taint key; left out: all.")
    operator: Literal["Exists", "Equal"] = Field(default="Equal", description="How values match.")
    value: ShortText | None = Field(default=None, description="Taint value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Taint effect; left out: all."
    )
    toleration_seconds: Count | None = Field(
        default=None, description="Seconds that a NoExecute taint is tolerated; left out: ever."
    )


FreeObject = Annotated[dict[str, Any], Field(max_length=16)]


class Affinity(Model):
    """Kubernetes affinity, passed to the pods as it is."""

    node_affinity: FreeObject | None = Field(default=None, description="As in a pod.")
    pod_affinity: FreeObject | None = Field(default=None, description="As in a pod.")
    pod_anti_affinity: FreeObject | None = Field(default=None, description="As in a pod.")


class Topology(Model):
    """Where the pods of one run lie to each other (Kueue's topology-aware scheduling)."""

    mode: Literal["Required", "Preferred"] = Field(
        default="Preferred", description="Whether the run waits until the topology can be had."
    )
    key: QualifiedName = Field(description="Node label of the domain that holds all pods.")


class Scheduling(Model):
    """How the run's pods are queued and placed."""

    queue: Word | None = Field(
        default=None, description="Kueue's local queue; left out: the queue-name label, if any."
    )
    priority_class_name: ObjectName | None = Field(
        default=None, description="PriorityClass of the pods."
    )
    node_selector: Mapping[str, ShortText] = Field(
        default_factory=dict, max_length=32, description="Node labels that the pods need."
    )
    tolerations: tuple[Toleration, ...] = Field(
        default=(), max_length=32, description="Taints that the pods tolerate."
    )
    affinity: Affinity | None = Field(default=None, description="Affinity of the pods.")
    topology: Topology | None = Field(default=None, description="Placement in the topology.")
    scheduler_name: ObjectName | None = Field(
        default=None, description="Scheduler other than the cluster's default."
    )


class RestartPolicy(Model):
    """What happens after a crash; preemption and other disruptions are not counted."""

    max_restarts: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=5, description="Crashes after which the run fails."
    )
    backoff_seconds: Seconds = Field(
        default=10, description="Pause after the first crash; doubles with each further one."
    )
    max_backoff_seconds: Seconds = Field(default=600, description="Upper bound of the pause.")
    rules = (
        Rule(
            path="maxBackoffSeconds",
            cel="self.maxBackoffSeconds >= self.backoffSeconds",
            message="must be at least backoffSeconds; raise it or lower backoffSeconds",
            check=lambda p: p.max_backoff_seconds >= p.backoff_seconds,
        ),
    )


class Disruption(Model):
    """What happens when the cluster takes the pods away."""

    policy: Literal["Resume", "Fail"] = Field(
        default="Resume", description="Whether the run goes on from its last state or fails."
    )
    max_preemptions: Count = Field(
        default=0, description="Disruptions after which the run fails; 0 means no limit."
    )
    termination_grace_period_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(
        default=120, description="Time that a pod has to save its state before it is killed."
    )


class Watchdog(Model):
    """What happens when a run stands still."""

    stall_seconds: Seconds = Field(
        default=1800, description="Time without progress after which the run counts as stalled."
    )
    action: Literal["None", "Restart", "Fail"] = Field(
        default="Restart", description="What is done with a stalled run."
    )


class Checkpoint(Model):
    """How often state is saved; a preempted run also saves when it is asked to stop."""

    interval: Literal["Fixed", "Auto"] = Field(
        default="Fixed",
        description="Fixed saves every everySteps; Auto chooses by what steps and saves take.",
    )
    every_steps: PositiveCount = Field(
        default=200, description="Steps between two checkpoints; with Auto the most."
    )
    mean_seconds_between_disruptions: Seconds = Field(
        default=3600, description="How often Auto expects the run to be disrupted."
    )
    keep: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3, description="Newest checkpoints that are kept."
    )


class JobSpec(Model):
    """The fields that all four kinds share."""

    image: Image | None = Field(
        default=None, description="Trainer image; left out: the operator's."
    )
    storage: Storage | None = Field(
        default=None, description="Where results go; left out: the operator's or the runner's."
    )
    resources: Resources = Field(
        default_factory=Resources, description="What each node of the run gets."
    )
    scheduling: Scheduling = Field(
        default_factory=Scheduling, description="How the pods are queued and placed."
    )
    service_account_name: ObjectName | None = Field(
        default=None, description="ServiceAccount of the pods, for access to the store."
    )
    suspend: bool = Field(
        default=False, description="Whether the run is paused: state saved, no pods."
    )
    restart_policy: RestartPolicy = Field(
        default_factory=RestartPolicy, description="What happens after a crash."
    )
    disruption: Disruption = Field(
        default_factory=Disruption, description="What happens when pods are taken away."
    )
    watchdog: Watchdog = Field(
        default_factory=Watchdog, description="What happens when the run stands still."
    )
    active_deadline_seconds: Seconds | None = Field(
        default=None, description="Running time after which the run fails; pauses do not count."
    )
    ttl_seconds_after_finished: Count | None = Field(
        default=None, description="Time after the end when the resource goes; left out: never."
    )
    managed_by: Literal["m2r.dev/operator", "kueue.x-k8s.io/multikueue"] = Field(
        default="m2r.dev/operator", description="Controller in charge; fixed at creation."
    )
    seed: Annotated[int, Field(ge=0, le=MAX_INT)] = Field(
        default=0, description="Source of every random number of the run."
    )


NON_RESULT_FIELDS: Final = frozenset(
    {
        "image",
        "storage",
        "scheduling",
        "service_account_name",
        "suspend",
        "restart_policy",
        "disruption",
        "watchdog",
        "active_deadline_seconds",
        "ttl_seconds_after_finished",
        "managed_by",
        "parallelism",
        "traces",
    }
)
"""Fields that do not change a run's result but for rounding (of ``resources`` only the threads)."""


def transition_rules(spec: type[JobSpec]) -> tuple[Rule, ...]:
    """What may change in a spec: nothing that changes the result, resources only while paused.

    These need the former state, so only the API server can check them.
    """
    fixed = [n for n in spec.model_fields if n not in NON_RESULT_FIELDS and n != "resources"]
    rules = []
    for name in (*fixed, "storage", "managed_by"):
        field = spec.model_fields[name].alias
        rules.append(
            Rule(
                path=f"{field}",
                cel=(
                    f"has(self.{field}) == has(oldSelf.{field}) && "
                    f"(!has(self.{field}) || self.{field} == oldSelf.{field})"
                ),
                message="cannot be changed; make a new resource for a different run",
            )
        )
    rules += [
        Rule(
            path=name,
            cel=f"self.{name} == oldSelf.{name} || (oldSelf.suspend && self.suspend)",
            message="can be changed only while the run is paused; set suspend to true first",
        )
        for name in ("resources", "parallelism")
        if name in spec.model_fields
    ]
    return tuple(rules)
