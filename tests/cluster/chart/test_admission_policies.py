"""The chart's ValidatingAdmissionPolicies by the API server's own CEL: what tenants may ask for."""

from __future__ import annotations

import copy
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from cluster import Cluster, ClusterError
from plays import evaluation, rlvr, sft, synthesis
from release import Release, make_adoptable, restore_crds

RULES: dict[str, Any] = {
    "enabled": True,
    "imagePrefixes": ["registry.example.com/m2r/", "m2r-train@sha256:"],
    "serviceAccounts": ["trainer", "trainer-gpu"],
    "storagePrefixes": ["s3://lab/{namespace}", "s3://shared/"],
    "maxGpus": 16,
}
IMAGE = "registry.example.com/m2r/m2r-train:0.1.0"
DIGEST = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def tenant(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A namespace that the rules hold for; the operator itself is not started."""
    home = f"t-admission-{uuid.uuid4().hex[:6]}"
    tenant = f"{home}-tenant"
    for name, labels in ((home, {}), (tenant, {"m2r-rules": home})):
        metadata = {"name": name, "labels": labels}
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    release = Release(cluster, home, tmp_path_factory.mktemp("helm"), name=f"m2r-{home[-6:]}")
    make_adoptable(cluster, release)
    rules = {**RULES, "namespaceLabels": {"m2r-rules": home}}
    release.install({"admission": rules, "image": {"pullPolicy": "Never"}})
    bad = with_spec(sft(), image="elsewhere:1")
    cluster.wait("the policies hold", lambda: refusal(cluster, tenant, bad), seconds=60)
    yield tenant
    release.uninstall()
    restore_crds(cluster)
    for name in (tenant, home):
        cluster.delete("namespace", name, wait=False)


def with_spec(run: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """The run with other values in its spec."""
    changed = copy.deepcopy(run)
    changed["spec"] |= spec
    return changed


def refusal(cluster: Cluster, namespace: str, run: dict[str, Any]) -> str:
    """Why the API server refuses the run; empty when it takes it (nothing is kept)."""
    try:
        cluster.kubectl(
            "create", "--dry-run=server", "-f", "-", namespace=namespace, stdin=json.dumps(run)
        )
    except ClusterError as error:
        return str(error)
    return ""


def gpus(nodes: int, each: int) -> dict[str, Any]:
    """Resources with accelerators."""
    return {"resources": {"nodes": nodes, "gpusPerNode": each}}


# What is set, with NS for the tenant's namespace; the message, empty where the run is taken.
CASES: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"image": IMAGE}, ""),
    ({"image": f"m2r-train@{DIGEST}"}, ""),
    ({"image": "m2r-train:0.1.0"}, "spec.image: must begin with one of registry.example.com/m2r/"),
    ({"image": "registry.example.com/m2r-train:1"}, "spec.image: must begin"),
    ({"image": f"evil.example.com/{IMAGE}"}, "spec.image: must begin"),
    ({"image": "registry.example.com.evil.org/m2r/x:1"}, "spec.image: must begin"),
    ({"serviceAccountName": "trainer"}, ""),
    ({"serviceAccountName": "trainer-gpu"}, ""),
    ({"serviceAccountName": "default"}, "spec.serviceAccountName: must be one of trainer, trainer"),
    ({"serviceAccountName": "m2r-operator"}, "spec.serviceAccountName: must be one of"),
    ({"storage": {"uri": "s3://lab/NS"}}, ""),
    ({"storage": {"uri": "s3://lab/NS/runs"}}, ""),
    ({"storage": {"uri": "s3://shared/anything"}}, ""),
    ({"storage": {"uri": "s3://shared"}}, ""),
    (
        {"storage": {"uri": "s3://lab"}},
        "spec.storage.uri: must lie in one of s3://lab/NS, s3://sha",
    ),
    ({"storage": {"uri": "s3://lab/other"}}, "spec.storage.uri: must lie in"),
    ({"storage": {"uri": "s3://lab/NS-2/runs"}}, "spec.storage.uri: must lie in"),
    ({"storage": {"uri": "s3://lab/NS/../other"}}, "spec.storage.uri: must lie in"),
    ({"storage": {"uri": "s3://lab/{namespace}"}}, "spec.storage.uri: must lie in"),
    ({"storage": {"uri": "s3://shared-2/x"}}, "spec.storage.uri: must lie in"),
    ({"storage": {"uri": "file:///lab/NS"}}, "spec.storage.uri: must lie in"),
    (gpus(2, 8), ""),
    (gpus(1, 16), ""),
    (gpus(1000, 0), ""),
    (gpus(3, 8), "at most 16 accelerators in all, this asks for 24"),
    (gpus(1, 17), "at most 16 accelerators in all, this asks for 17"),
]


KINDS = {"sft": sft, "rlvr": rlvr, "evaluation": evaluation, "synthesis": synthesis}


@pytest.fixture(scope="module")
def verdicts(cluster: Cluster, tenant: str) -> dict[str, str]:
    """What the API server says to each case of each kind, asked in one go; nothing is kept."""
    runs = {}
    for kind, make in KINDS.items():
        for n, (spec, _) in enumerate(CASES):
            name = f"{kind}-{n}-case"
            runs[name] = with_spec(make(name), **json.loads(json.dumps(spec).replace("NS", tenant)))
    said = cluster.kubectl(
        "create", "--dry-run=server", "-f", "-", namespace=tenant, check=False,
        stdin="\n---\n".join(map(json.dumps, runs.values())),
    ).splitlines()  # fmt: skip
    found = {name: [line for line in said if re.search(rf'[/"]{name}["\s]', line)] for name in runs}
    assert {name: lines for name, lines in found.items() if len(lines) != 1} == {}
    return {name: line for name, [line] in found.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", range(len(CASES)), ids=[str(spec) for spec, _ in CASES])
def test_a_tenants_run_is_taken_or_refused_with_the_reason(
    tenant: str, verdicts: dict[str, str], kind: str, n: int
) -> None:
    said, message = verdicts[f"{kind}-{n}-case"], CASES[n][1]
    if not message:
        assert said.endswith("created (server dry run)")
    else:
        assert message.replace("NS", tenant) in said
        assert "Forbidden" in said or "denied" in said


def test_a_run_cannot_be_changed_into_what_is_refused(cluster: Cluster, tenant: str) -> None:
    cluster.apply(with_spec(sft("changing"), suspend=True), namespace=tenant)
    patch = json.dumps({"spec": {"image": "elsewhere:1"}})
    with pytest.raises(ClusterError, match="must begin with one of"):
        cluster.kubectl("patch", "sftj", "changing", "--type=merge", "-p", patch, namespace=tenant)


def test_a_run_that_was_there_before_the_rules_can_still_go(
    cluster: Cluster, tenant: str, request: pytest.FixtureRequest
) -> None:
    label = f"m2r-rules={cluster.get('namespace', tenant)['metadata']['labels']['m2r-rules']}"
    cluster.kubectl("label", "namespace", tenant, "m2r-rules-")
    run = with_spec(sft("before"), image="elsewhere:1", suspend=True)
    run["metadata"]["finalizers"] = ["example.com/held"]
    cluster.wait("the rules do not hold", lambda: not refusal(cluster, tenant, run), seconds=30)
    cluster.apply(run, namespace=tenant)
    cluster.kubectl("label", "namespace", tenant, label)
    cluster.wait("the rules hold", lambda: refusal(cluster, tenant, run), seconds=30)
    touch = json.dumps({"metadata": {"labels": {"a": "b"}}})
    with pytest.raises(ClusterError, match="must begin with one of"):
        cluster.kubectl("patch", "sftj", "before", "--type=merge", "-p", touch, namespace=tenant)
    cluster.delete("sftj", "before", namespace=tenant, wait=False)
    done = json.dumps({"metadata": {"finalizers": []}})
    cluster.kubectl("patch", "sftj", "before", "--type=merge", "-p", done, namespace=tenant)
    assert cluster.try_get("sftj", "before", namespace=tenant) is None


def test_the_rules_hold_for_no_other_namespace(cluster: Cluster, tenant: str) -> None:
    home = tenant.removesuffix("-tenant")
    assert refusal(cluster, home, with_spec(sft(), image="elsewhere:1")) == ""


def test_the_api_server_finds_no_mistake_in_the_expressions(cluster: Cluster, tenant: str) -> None:
    names = [
        item["metadata"]["name"]
        for item in cluster.get("validatingadmissionpolicies")["items"]
        if item["metadata"]["name"].startswith(f"m2r-{tenant.removesuffix('-tenant')[-6:]}-")
    ]
    assert len(names) == 4
    for name in names:
        status = cluster.wait(
            "the expressions are type-checked",
            lambda name=name: cluster.get("validatingadmissionpolicy", name).get("status"),
            seconds=60,
        )
        assert status["typeChecking"].get("expressionWarnings", []) == []
