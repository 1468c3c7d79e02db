"""Laws of rendered Jobs over many specs: safe, pure, plain JSON, and read back as they were."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from unit.operator.children import NO_DEFAULTS, a_run, create, violations

from m2r_operator import names
from m2r_operator.manifests import RenderError, job, service
from m2r_train.api import KINDS, RunSpec

LABELS = st.sampled_from(["a", "kubernetes.io/arch", "x.io/y", "gpu"])
TEXTS = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=5,
)
FREE = st.dictionaries(TEXTS | st.just("hostPath") | st.just("volumes"), JSON, max_size=3)
TERMS = st.fixed_dictionaries(
    {},
    optional={
        "requiredDuringSchedulingIgnoredDuringExecution": st.lists(FREE, max_size=2) | FREE,
        "preferredDuringSchedulingIgnoredDuringExecution": st.lists(FREE, max_size=2),
    },
)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


TOLERATIONS = st.lists(
    optional(
        key=LABELS | st.just("node.kubernetes.io/unreachable"),
        operator=st.sampled_from(["Exists", "Equal"]),
        value=TEXTS,
        effect=st.sampled_from(["NoSchedule", "NoExecute"]),
        tolerationSeconds=st.integers(0, 99),
    ),
    max_size=3,
)
SPECS = optional(
    image=st.just("other/image:1"),
    serviceAccountName=st.just("writer"),
    resources=optional(
        nodes=st.integers(1, 4),
        gpusPerNode=st.integers(0, 8),
        gpuResource=LABELS,
        cpu=st.sampled_from(["0", "500m", "3", "2.5"]),
        memory=st.sampled_from(["1Gi", "0"]),
        sharedMemory=st.sampled_from(["64Mi", "1Gi"]),
        rdma=optional(resource=LABELS, count=st.integers(1, 4)),
    ),
    scheduling=optional(
        priorityClassName=st.just("high"),
        nodeSelector=st.dictionaries(TEXTS, TEXTS, max_size=2),
        tolerations=TOLERATIONS,
        affinity=optional(nodeAffinity=FREE, podAffinity=TERMS, podAntiAffinity=FREE),
        topology=st.fixed_dictionaries(
            {"key": LABELS}, optional={"mode": st.sampled_from(["Required", "Preferred"])}
        ),
        schedulerName=st.just("volcano"),
    ),
    disruption=optional(
        policy=st.sampled_from(["Resume", "Fail"]),
        maxPreemptions=st.integers(0, 3),
        terminationGracePeriodSeconds=st.integers(1, 86400),
    ),
    restartPolicy=optional(maxRestarts=st.integers(0, 9)),
    seed=st.integers(0, 9),
)


@given(
    kind=st.sampled_from(sorted(KINDS)),
    spec=SPECS,
    attempt=st.integers(1, 999),
    queue=st.none() | st.just("research"),
)
def test_any_run_makes_a_safe_and_plain_job_or_is_refused_in_one_line(
    kind: str, spec: dict[str, Any], attempt: int, queue: str | None
) -> None:
    run = a_run(kind, **spec)
    before = copy.deepcopy(run)
    action = create(attempt, queue=queue)
    try:
        child = job(run, action, NO_DEFAULTS)
    except RenderError as refused:
        assert "\n" not in str(refused)
        assert "spec." in str(refused)
        return
    assert violations(child) == []
    assert run == before
    assert json.loads(json.dumps(child, allow_nan=False)) == child
    assert job(run, action, NO_DEFAULTS) == child
    told = RunSpec.from_json(child["spec"]["template"]["metadata"]["annotations"][names.RUN_SPEC])
    assert told.parsed_spec == run.spec
    assert told.attempt == attempt
    if (meeting := service(run)) is not None:
        assert meeting["metadata"]["name"] == child["spec"]["template"]["spec"]["subdomain"]
    assert ("backoffLimit" in child["spec"]) != ("backoffLimitPerIndex" in child["spec"])
