"""What the chart makes for each set of values, and that Helm 4 and Helm 3 make the same."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
import yaml
from integration.chart.rendering import (
    ALL,
    CHART,
    LOADER,
    MATRIX,
    ROOT,
    Helm,
    HelmError,
    Manifest,
    Values,
    environment,
    keys,
    of,
    parse,
    pods,
)

from m2r_operator.settings import Settings, load
from m2r_train.telemetry.rules import ALERTS, RUN
from m2r_train.telemetry.rules import rules as declared_rules

CRDS = ("datasynthesisjobs", "evaljobs", "rlvrjobs", "sftjobs")
CORE = {
    ("Deployment", "m2r-system", "m2r-operator"),
    ("Service", "m2r-system", "m2r-operator"),
    ("ServiceAccount", "m2r-system", "m2r-operator"),
    ("Role", "m2r-system", "m2r-operator-lease"),
    ("RoleBinding", "m2r-system", "m2r-operator-lease"),
}
CLUSTER = {("ClusterRole", "", "m2r-operator"), ("ClusterRoleBinding", "", "m2r-operator")}
USERS = {("ClusterRole", "", "m2r-viewer"), ("ClusterRole", "", "m2r-editor")}
PDB = {("PodDisruptionBudget", "m2r-system", "m2r-operator")}
POLICY = {("NetworkPolicy", "m2r-system", "m2r-operator")}
DEFINITIONS = {("CustomResourceDefinition", "", f"{name}.m2r.dev") for name in CRDS}
S3 = {("Deployment", "m2r-system", "m2r-s3"), ("Service", "m2r-system", "m2r-s3")}
DISK = {("PersistentVolumeClaim", "m2r-system", "m2r-s3")}
KEYS = {("Secret", "m2r-system", "m2r-s3")}
MONITORS = {
    ("ServiceMonitor", "m2r-system", "m2r-operator"),
    ("PodMonitor", "m2r-system", "m2r-runs"),
    ("PrometheusRule", "monitoring", "m2r-alerts"),
}
BOARDS = {
    ("ConfigMap", "monitoring", f"m2r-dashboard-{name}")
    for name in ("fleet", "operator", "run", "synthesis")
}
RULES = ("images", "serviceaccounts", "storage", "gpus")
ALWAYS = CORE | CLUSTER | USERS | PDB | POLICY | DEFINITIONS


def in_namespaces(*namespaces: str) -> set[tuple[str, str, str]]:
    """The operator's rights in the namespaces that it serves."""
    name = "m2r-m2r-system-operator"
    return {(kind, ns, name) for ns in namespaces for kind in ("Role", "RoleBinding")}


def admission(prefix: str) -> set[tuple[str, str, str]]:
    """The four policies with their bindings."""
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    return {(kind, "", f"{prefix}-{rule}") for kind in kinds for rule in RULES}


def runs(*namespaces: str) -> set[tuple[str, str, str]]:
    """The NetworkPolicies of runs."""
    return {("NetworkPolicy", namespace, "m2r-runs") for namespace in namespaces}


EXPECTED = {
    "defaults": ALWAYS,
    "everything": ALWAYS | MONITORS | BOARDS | S3 | DISK | KEYS | {("Secret", "team-a", "m2r-s3")}
    | runs("team-a", "team-b") | admission("m2r"),
    "namespaced": ALWAYS - CLUSTER - USERS | in_namespaces("team-a", "team-b"),
    "namespaced, everything": (ALWAYS | MONITORS | BOARDS | S3 | DISK | KEYS) - CLUSTER - USERS
    | in_namespaces("team-a") | runs("team-a") | admission("m2r-m2r-system")
    | {("Secret", "team-a", "m2r-s3")},
    "one replica": ALWAYS - PDB,
    "no rights, no account": (CORE | PDB | POLICY | DEFINITIONS) - {
        ("ServiceAccount", "m2r-system", "m2r-operator"),
        ("Role", "m2r-system", "m2r-operator-lease"),
        ("RoleBinding", "m2r-system", "m2r-operator-lease"),
    },
    "default account": ALWAYS - {("ServiceAccount", "m2r-system", "m2r-operator")},
    "no CRDs": ALWAYS - DEFINITIONS,
    "CRDs that go": ALWAYS,
    "bare": CORE | CLUSTER,
    "store with keys": ALWAYS,
    "store with identity": ALWAYS,
    "S3 in memory, own keys": ALWAYS | S3 | KEYS,
    "S3 with a Secret of the user": ALWAYS | S3 | DISK,
    "names": {
        (kind, namespace, re.sub(r"^m2r-(?!system)", "training-", name))
        for kind, namespace, name in ALWAYS - DEFINITIONS
    } | DEFINITIONS,
    "air gap": ALWAYS | S3 | DISK | KEYS,
}  # fmt: skip


@pytest.mark.parametrize("name", MATRIX)
def test_a_set_of_values_makes_exactly_these_objects(helm: Helm, name: str) -> None:
    found = keys(helm.objects(MATRIX[name]))
    assert len(found) == len(set(found))
    assert set(found) == EXPECTED[name]


def test_both_versions_of_helm_make_the_same(values: Values) -> None:
    if values.get("s3", {}).get("enabled") and "credentials" not in values["s3"]:
        values = {**values, "s3": {**values["s3"], "credentials": {
            "accessKey": "fixed", "secretKey": "fixed"}}}  # fmt: skip
    assert Helm("helm").objects(values) == Helm("helm3").objects(values)


def test_every_pod_meets_the_restricted_standard_and_has_a_read_only_root(
    helm: Helm, values: Values
) -> None:
    found = list(pods(helm.objects(values)))
    assert found
    for _, pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        allowed = {"emptyDir", "persistentVolumeClaim"}
        assert {kind for v in pod["volumes"] for kind in v if kind != "name"} <= allowed
        for container in pod["containers"] + pod.get("initContainers", []):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }
            assert not any("hostPort" in port for port in container.get("ports", []))


def test_only_the_operator_has_a_token(helm: Helm) -> None:
    objects = helm.objects(ALL)
    tokens = {name: pod["automountServiceAccountToken"] for name, pod in pods(objects)}
    assert tokens == {"m2r-operator": True, "m2r-s3": False}
    (account,) = of(objects, "ServiceAccount").values()
    assert account["automountServiceAccountToken"] is False


def rules(item: Manifest) -> set[tuple[str, str, str]]:
    """A role as (group, resource, verb)."""
    return {
        (group, resource, verb)
        for rule in item["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def expected_rules() -> set[tuple[str, str, str]]:
    """All that the operator may do where runs are."""
    kinds = {
        (group, resource, verb)
        for resource in CRDS
        for group, resource, verbs in (
            ("m2r.dev", resource, ("get", "list", "watch", "patch", "delete")),
            ("m2r.dev", f"{resource}/status", ("patch",)),
            ("m2r.dev", f"{resource}/finalizers", ("update",)),
        )
        for verb in verbs
    }
    return kinds | {
        *(("batch", "jobs", verb) for verb in ("get", "list", "watch", "create", "delete")),
        ("", "pods", "list"),
        ("", "pods", "watch"),
        ("", "services", "get"),
        ("", "services", "create"),
        ("events.k8s.io", "events", "create"),
    }


def test_the_operator_has_these_rights_and_no_other(helm: Helm) -> None:
    role = of(helm.objects({}), "ClusterRole")["m2r-operator"]
    assert rules(role) == expected_rules()
    assert role["rules"] == of(helm.objects(MATRIX["namespaced"]), "Role")[
        "team-b/m2r-m2r-system-operator"
    ]["rules"]  # fmt: skip


def test_the_lease_is_the_only_right_in_its_own_namespace(helm: Helm) -> None:
    for name in ("defaults", "namespaced"):
        role = of(helm.objects(MATRIX[name]), "Role")["m2r-operator-lease"]
        named = [rule.get("resourceNames") for rule in role["rules"]]
        lease = environment(helm.objects(MATRIX[name]))["M2R_OPERATOR_LEASE_NAME"]
        assert rules(role) == {
            ("coordination.k8s.io", "leases", verb) for verb in ("create", "get", "update")
        }
        assert named == [None, [lease]]
        assert role["rules"][0]["verbs"] == ["create"]


def test_nobody_gets_secrets_or_a_wildcard(helm: Helm, values: Values) -> None:
    for kind in ("Role", "ClusterRole"):
        for item in of(helm.objects(values), kind).values():
            for group, resource, verb in rules(item):
                assert "*" not in (group, resource, verb)
                assert resource.partition("/")[0] != "secrets"


def test_rights_are_bound_to_the_account_of_the_pods(helm: Helm, values: Values) -> None:
    objects = helm.objects(values)
    account = of(objects, "Deployment")
    (used,) = {
        d["spec"]["template"]["spec"]["serviceAccountName"]
        for name, d in account.items()
        if name.endswith("-operator")
    }
    for kind in ("RoleBinding", "ClusterRoleBinding"):
        for binding in of(objects, kind).values():
            subject = {"kind": "ServiceAccount", "name": used, "namespace": "m2r-system"}
            assert binding["subjects"] == [subject]


def test_users_see_runs_with_view_and_change_them_with_edit(helm: Helm) -> None:
    roles = of(helm.objects({}), "ClusterRole")
    read = {("m2r.dev", name, verb) for name in CRDS for verb in ("get", "list", "watch")}
    write = {
        ("m2r.dev", name, verb)
        for name in CRDS
        for verb in ("create", "update", "patch", "delete", "deletecollection")
    }
    assert rules(roles["m2r-viewer"]) == read
    assert rules(roles["m2r-editor"]) == read | write
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    to = {
        name: {key.removeprefix(prefix) for key in item["metadata"]["labels"] if prefix in key}
        for name, item in roles.items()
    }
    assert to["m2r-viewer"] == {"view", "edit", "admin"}
    assert to["m2r-editor"] == {"edit", "admin"}
    assert to["m2r-operator"] == set()


@pytest.mark.parametrize(
    ("values", "name", "image"),
    [
        ({}, "m2r-operator", "m2r-operator:{version}"),
        ({"image": {"tag": "2"}}, "m2r-operator", "m2r-operator:2"),
        ({"image": {"registry": "r.io/a", "digest": "sha256:" + "0" * 64, "tag": "2"}},
         "m2r-operator", "r.io/a/m2r-operator@sha256:" + "0" * 64),
        ({"global": {"imageRegistry": "r.io"}}, "m2r-operator", "r.io/m2r-operator:{version}"),
        ({"global": {"imageRegistry": "r.io"}, "image": {"registry": "other.io"}},
         "m2r-operator", "other.io/m2r-operator:{version}"),
        ({"global": {"imageRegistry": "r.io"}, "s3": {"enabled": True}},
         "m2r-s3", "r.io/versity/versitygw:v1.8.0"),
        ({"s3": {"enabled": True}}, "m2r-s3", "ghcr.io/versity/versitygw:v1.8.0"),
    ],
)  # fmt: skip
def test_an_image_is_named_by_registry_and_digest_or_tag(
    helm: Helm, values: Values, name: str, image: str
) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    pod = dict(pods(helm.objects(values)))[name]
    assert pod["containers"][0]["image"] == image.format(version=version)


def test_with_a_global_registry_no_image_comes_from_elsewhere(helm: Helm) -> None:
    objects = helm.objects(MATRIX["air gap"])
    images = [
        c["image"]
        for _, pod in pods(objects)
        for c in pod["containers"] + pod.get("initContainers", [])
    ]
    images.append(environment(objects)["M2R_OPERATOR_DEFAULT_IMAGE"])
    assert len(images) == 4
    assert all(image.startswith("registry.internal/m2r/") for image in images)


def test_crds_are_those_of_the_project_and_stay_unless_told_otherwise(helm: Helm) -> None:
    kept, going = helm.objects({}), helm.objects(MATRIX["CRDs that go"])
    for name in CRDS:
        ours = yaml.load((ROOT / "crds" / f"m2r.dev_{name}.yaml").read_text(), LOADER)
        template = of(kept, "CustomResourceDefinition")[f"{name}.m2r.dev"]
        assert template["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        assert (
            "annotations"
            not in of(going, "CustomResourceDefinition")[f"{name}.m2r.dev"]["metadata"]
        )
        assert template["spec"] == ours["spec"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {}),
        (MATRIX["store with keys"]["storage"], {
            "URI": "s3://lab/runs", "ENDPOINT": "https://s3.example.com",
            "REGION": "eu-central-1", "SECRET": "lab-s3"}),
        (MATRIX["store with identity"]["storage"], {"URI": "s3://lab/runs"}),
    ],
    ids=["none", "keys", "identity"],
)  # fmt: skip
def test_the_default_store_reaches_the_operator(
    helm: Helm, values: Values, expected: dict[str, str]
) -> None:
    found = environment(helm.objects({"storage": values}))
    prefix = "M2R_OPERATOR_STORAGE_"
    given = {key.removeprefix(prefix): v for key, v in found.items() if key.startswith(prefix)}
    assert given == expected


def test_the_charts_own_s3_server_is_the_default_store(helm: Helm) -> None:
    found = environment(helm.objects({"s3": {"enabled": True}}))
    assert found["M2R_OPERATOR_STORAGE_URI"] == "s3://m2r"
    assert found["M2R_OPERATOR_STORAGE_ENDPOINT"] == "http://m2r-s3.m2r-system.svc:7070"
    assert found["M2R_OPERATOR_STORAGE_SECRET"] == "m2r-s3"
    disk = of(helm.objects(MATRIX["air gap"]), "PersistentVolumeClaim")["m2r-s3"]
    assert disk["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    mine = environment(helm.objects(MATRIX["S3 with a Secret of the user"]))
    assert mine["M2R_OPERATOR_STORAGE_SECRET"] == "mine"
    assert mine["M2R_OPERATOR_STORAGE_URI"] == "s3://first-try"


def test_all_copies_of_the_generated_keys_are_equal_and_each_install_has_new_ones(
    helm: Helm,
) -> None:
    secrets = of(
        helm.objects({"s3": {"enabled": True, "namespaces": ["team-a", "m2r-system"]}}), "Secret"
    )
    assert set(secrets) == {"m2r-s3", "team-a/m2r-s3"}
    assert secrets["m2r-s3"]["data"] == secrets["team-a/m2r-s3"]["data"]
    sizes = {key: len(base64.b64decode(v)) for key, v in secrets["m2r-s3"]["data"].items()}
    assert sizes == {"AWS_ACCESS_KEY_ID": 20, "AWS_SECRET_ACCESS_KEY": 40}
    again = of(helm.objects({"s3": {"enabled": True}}), "Secret")["m2r-s3"]["data"]
    assert again != secrets["m2r-s3"]["data"]


def test_given_keys_stand_in_the_secret_and_nowhere_else(helm: Helm) -> None:
    text = helm.render(MATRIX["S3 in memory, own keys"])
    secret = of(parse(text), "Secret")["m2r-s3"]
    assert base64.b64decode(secret["data"]["AWS_SECRET_ACCESS_KEY"]) == b"canary/secret+1"
    assert "canarykey" not in text.lower()
    assert "canary/secret" not in text.lower()
    encoded = secret["data"]["AWS_SECRET_ACCESS_KEY"]
    assert text.count(encoded) == 1


def test_the_operator_reads_its_settings_from_the_environment_as_meant(helm: Helm) -> None:
    objects = helm.objects({**ALL, "watchNamespaces": ["team-a", "team-b"]})
    settings = load([], environment(objects))
    assert settings == Settings(
        namespaces=("team-a", "team-b"),
        default_image="registry.example.com:5000/m2r-train@sha256:" + "a" * 64,
        storage_uri="s3://m2r",
        storage_endpoint="http://m2r-s3.m2r-system.svc:7070",
        storage_region="us-east-1",
        storage_secret="m2r-s3",
        image_pull_secrets=("pull",),
        image_pull_policy="Always",
        service_accounts=("trainer",),
        lease_namespace="m2r-system",
    )


def test_every_set_of_values_is_one_that_the_operator_starts_with(
    helm: Helm, values: Values
) -> None:
    objects = helm.objects(values)
    (name,) = (name for name in of(objects, "Deployment") if name.endswith("-operator"))
    settings = load([], environment(objects, name))
    (container,) = of(objects, "Deployment")[name]["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"metrics": settings.metrics_port, "health": settings.health_port}
    assert settings.lease == ("m2r-system", name)


def test_service_accounts_of_runs_are_any_unless_a_list_is_given(helm: Helm) -> None:
    def allowed(accounts: Any) -> str | None:
        trainer = {"trainer": {"serviceAccounts": accounts}}
        return environment(helm.objects(trainer)).get("M2R_OPERATOR_SERVICE_ACCOUNTS")

    assert allowed(None) is None
    assert allowed([]) == ""
    assert allowed(["a", "b"]) == "a,b"


def test_each_selector_means_the_pods_of_one_deployment(helm: Helm, values: Values) -> None:
    objects = helm.objects(values)
    labels = {
        name: item["spec"]["template"]["metadata"]["labels"].items()
        for name, item in of(objects, "Deployment").items()
    }
    selectors = [
        *((name, item["spec"]["selector"]) for name, item in of(objects, "Service").items()),
        *(
            (name, item["spec"]["selector"]["matchLabels"])
            for kind in ("Deployment", "PodDisruptionBudget")
            for name, item in of(objects, kind).items()
        ),
        *(
            (name, item["spec"]["podSelector"]["matchLabels"])
            for name, item in of(objects, "NetworkPolicy").items()
            if name.endswith("-operator")
        ),
    ]
    assert len(selectors) >= 2
    for name, selector in selectors:
        assert [n for n, own in labels.items() if selector.items() <= own] == [name]
    for item in of(objects, "ServiceMonitor").values():
        wanted = item["spec"]["selector"]["matchLabels"].items()
        services = of(objects, "Service").items()
        assert [n for n, s in services if wanted <= s["metadata"]["labels"].items()] == [
            item["metadata"]["name"]
        ]


def test_network_policies_of_runs_let_in_metrics_and_their_own_kind_only(helm: Helm) -> None:
    policy = of(helm.objects(ALL), "NetworkPolicy")["team-a/m2r-runs"]["spec"]
    run = {"matchExpressions": [{"key": "m2r.dev/kind", "operator": "Exists"}]}
    assert policy["podSelector"] == run
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    metrics, peers = policy["ingress"]
    assert metrics["ports"] == [{"protocol": "TCP", "port": 9400}]
    operator, monitoring = metrics["from"]
    assert operator["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "operator"
    assert operator["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "m2r-system"
    }
    assert "podSelector" not in monitoring
    assert peers == {"from": [{"podSelector": run}]}
    dns, kin, store, own = policy["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert kin == {"to": [{"podSelector": run}]}
    assert store["ports"] == [{"protocol": "TCP", "port": 443}]
    assert own["ports"] == [{"protocol": "TCP", "port": "s3"}]


def test_a_monitored_run_is_named_by_labels_that_no_series_has(helm: Helm) -> None:
    from m2r_train.telemetry.metrics import TRAINER_SERIES

    monitor = of(helm.objects(ALL), "PodMonitor")["m2r-runs"]["spec"]
    assert monitor["namespaceSelector"] == {"any": True}
    (endpoint,) = monitor["podMetricsEndpoints"]
    targets = {rule["targetLabel"] for rule in endpoint["relabelings"] if "targetLabel" in rule}
    assert targets == {"run", "run_kind", "index", "instance"}
    used = {label for series in TRAINER_SERIES for label in series.labels}
    assert "kind" in used
    assert not targets & used


def test_the_rules_are_those_of_the_package_and_link_to_the_runbook_that_is_given(
    each_helm: Helm,
) -> None:
    given = {"enabled": True, "labels": {"release": "prom"}, "runbook": "https://wiki.lab/m2r"}
    (found,) = of(
        each_helm.objects({"metrics": {"prometheusRule": given}}), "PrometheusRule"
    ).values()
    assert found["metadata"]["namespace"] == "m2r-system"
    assert found["metadata"]["labels"]["release"] == "prom"
    moved = {one["alert"]: one["annotations"].pop("runbook_url") for one in alerts(found["spec"])}
    assert moved == {one.name: f"https://wiki.lab/m2r#{one.name.lower()}" for one in ALERTS}
    declared = declared_rules()
    for one in alerts(declared):
        del one["annotations"]["runbook_url"]
    assert found["spec"] == declared
    on = {"metrics": {"prometheusRule": {"enabled": True}}}
    (as_it_is,) = of(each_helm.objects(on), "PrometheusRule").values()
    assert as_it_is["spec"] == declared_rules()


def alerts(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The alerts of a file of rules."""
    return [one for group in spec["groups"] for one in group["rules"] if "alert" in one]


def test_the_monitor_asks_the_port_and_reads_the_labels_that_the_operator_gives_pods(
    helm: Helm,
) -> None:
    job = json.loads((ROOT / "tests" / "golden" / "quickstart-rlvr-job.json").read_text())
    pod = job["spec"]["template"]
    ports = [port["name"] for c in pod["spec"]["containers"] for port in c["ports"]]
    (monitor,) = of(helm.objects(ALL), "PodMonitor").values()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert [endpoint["port"]] == ports
    (wanted,) = monitor["spec"]["selector"]["matchExpressions"]
    assert wanted == {"key": "m2r.dev/kind", "operator": "Exists"}
    assert wanted["key"] in pod["metadata"]["labels"]
    given = {re.sub(r"\W", "_", name) for name in pod["metadata"]["labels"]}
    sources = [s for one in endpoint["relabelings"] for s in one.get("sourceLabels", [])]
    prefix = "__meta_kubernetes_pod_label_"
    assert {s.removeprefix(prefix) for s in sources if s.startswith(prefix)} == given & {
        "m2r_dev_name", "m2r_dev_kind",
    }  # fmt: skip


def test_what_identifies_a_run_in_the_rules_is_what_the_monitor_puts_on_its_series(
    helm: Helm,
) -> None:
    """`namespace` is the target's own; the other two are written from the pod's labels."""
    (monitor,) = of(helm.objects(ALL), "PodMonitor").values()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    written = {one.get("targetLabel") for one in endpoint["relabelings"]}
    assert set(RUN.split(", ")) - written == {"namespace"}
    assert not any(one.get("targetLabel") == "namespace" for one in endpoint["relabelings"])
    dropped = [one["regex"] for one in endpoint["relabelings"] if one["action"] == "labeldrop"]
    assert not any(re.fullmatch(regex, label) for regex in dropped for label in RUN.split(", "))


def test_dashboards_are_given_as_they_are_to_the_sidecar_that_looks_for_them(
    each_helm: Helm,
) -> None:
    values: Values = {"dashboards": {"enabled": True, "labels": {"grafana_dashboard": "yes"},
                                     "annotations": {"grafana_folder": "Training"}}}  # fmt: skip
    found = of(each_helm.objects(values), "ConfigMap")
    files = {path.stem: path for path in (CHART / "dashboards").glob("*.json")}
    assert set(found) == {f"m2r-dashboard-{name}" for name in files}
    for name, path in files.items():
        item = found[f"m2r-dashboard-{name}"]
        assert item["data"] == {f"m2r-{name}.json": path.read_text().rstrip("\n")}
        assert json.loads(item["data"][f"m2r-{name}.json"])["uid"] == f"m2r-{name}"
        assert item["metadata"]["labels"]["grafana_dashboard"] == "yes"
        assert item["metadata"]["annotations"] == {"grafana_folder": "Training"}
    assert len(json.dumps(found)) < 500_000  # each of them has to stay under 1 MiB
    by_default = of(each_helm.objects({"dashboards": {"enabled": True}}), "ConfigMap")
    for item in by_default.values():
        assert item["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert not of(each_helm.objects({}), "ConfigMap")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"s3": {"enabled": True}, "storage": {"uri": "s3://lab"}}, "give one of them"),
        ({"networkPolicy": {"trainer": {"enabled": True}}}, "name the namespaces with runs"),
        ({"podDisruptionBudget": {"minAvailable": 2}}, "must be less than replicas"),
    ],
)
def test_values_that_contradict_each_other_are_refused_with_the_remedy(
    each_helm: Helm, values: Values, message: str
) -> None:
    with pytest.raises(HelmError, match=message):
        each_helm.render(values)


@pytest.mark.parametrize(
    ("release", "name"),
    [("m2r", "m2r"), ("my-m2r", "my-m2r"), ("lab", "lab-m2r"), ("a" * 53, "a" * 40)],
)
def test_names_begin_with_the_release_and_stay_short_enough(
    helm: Helm, release: str, name: str
) -> None:
    names = [key[2] for key in keys(helm.objects(ALL, release=release))]
    ours = [found for found in names if not found.endswith(".m2r.dev")]
    assert all(found.startswith(f"{name}-") and len(found) <= 63 for found in ours)
