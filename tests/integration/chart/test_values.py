"""values.schema.json refuses what the chart does not know, with the value's path, in both helms."""

from __future__ import annotations

from typing import Any

import pytest
from integration.chart.rendering import CHART, Helm, HelmError, Values, keys, parse

# (values, the path that the message names)
BAD: list[tuple[Values, str]] = [
    ({"replica": 2}, "replica"),
    ({"operator": {}}, "operator"),
    ({"image": {"name": "x"}}, "image"),
    ({"image": "m2r-operator:1"}, "image"),
    ({"image": {"tag": 1}}, "image/tag"),
    ({"image": {"tag": "a b"}}, "image/tag"),
    ({"image": {"digest": "sha256:abc"}}, "image/digest"),
    ({"image": {"pullPolicy": "Sometimes"}}, "image/pullPolicy"),
    ({"image": {"registry": "https://r.io"}}, "image/registry"),
    ({"global": {"imageRegistry": "r.io/"}}, "global/imageRegistry"),
    ({"global": {"imagePullSecrets": [{"name": "pull"}]}}, "global/imagePullSecrets"),
    ({"replicas": 0}, "replicas"),
    ({"replicas": "2"}, "replicas"),
    ({"replicas": 2.5}, "replicas"),
    ({"watchNamespaces": "team-a"}, "watchNamespaces"),
    ({"watchNamespaces": ["Team"]}, "watchNamespaces"),
    ({"watchNamespaces": ["a", "a"]}, "watchNamespaces"),
    ({"logLevel": "trace"}, "logLevel"),
    ({"pollSeconds": 0}, "pollSeconds"),
    ({"apiRate": 0}, "apiRate"),
    ({"resources": {"limits": {"memory": "much"}}}, "resources/limits/memory"),
    ({"resources": {"claims": []}}, "resources"),
    ({"nodeSelector": {"a": True}}, "nodeSelector"),
    ({"tolerations": ["x"]}, "tolerations"),
    ({"podLabels": {"a b": "c"}}, "podLabels"),
    ({"crds": {"enabled": "yes"}}, "crds/enabled"),
    ({"metrics": {"port": 0}}, "metrics/port"),
    ({"metrics": {"podMonitor": {"interval": "often"}}}, "metrics/podMonitor/interval"),
    ({"metrics": {"prometheusRule": {"runbook": "a: b"}}}, "metrics/prometheusRule/runbook"),
    ({"networkPolicy": {"trainer": {"storePorts": []}}}, "networkPolicy/trainer/storePorts"),
    ({"networkPolicy": {"trainer": {"storeCidrs": ["any"]}}}, "networkPolicy/trainer/storeCidrs"),
    ({"admission": {"actions": []}}, "admission/actions"),
    ({"admission": {"actions": ["Allow"]}}, "admission/actions"),
    ({"admission": {"maxGpus": -1}}, "admission/maxGpus"),
    ({"admission": {"storagePrefixes": ["lab"]}}, "admission/storagePrefixes"),
    ({"trainer": {"serviceAccounts": "a"}}, "trainer/serviceAccounts"),
    ({"storage": {"uri": "lab/runs"}}, "storage/uri"),
    ({"storage": {"endpoint": "https://key:secret@s3.example.com"}}, "storage/endpoint"),
    ({"storage": {"secretKey": "x"}}, "storage"),
    ({"s3": {"bucket": "a"}}, "s3/bucket"),
    ({"s3": {"bucket": "../etc"}}, "s3/bucket"),
    ({"s3": {"persistence": {"size": "big"}}}, "s3/persistence/size"),
    ({"s3": {"credentials": {"accessKey": "a\nb"}}}, "s3/credentials/accessKey"),
]


@pytest.mark.parametrize(("values", "path"), BAD, ids=[str(values)[:60] for values, _ in BAD])
def test_an_unknown_or_badly_typed_value_is_refused_by_its_path(
    each_helm: Helm, values: Values, path: str
) -> None:
    with pytest.raises(HelmError) as refused:
        each_helm.render(values)
    said = str(refused.value).replace(".", "/")
    assert path in said


INJECTIONS = (
    '{{ fail "run" }}',
    'x"\n---\nkind: Secret',
    "x\n  hostNetwork: true",
    "'; drop",
    "$(touch /tmp/x)",
    "${HOME}",
    '"] || true || ["',
)
# Free text of the values, as (place, what surrounds it).
FREE: list[tuple[str, Any]] = [
    ("podAnnotations", lambda text: {"podAnnotations": {"a": text}}),
    ("serviceAccount", lambda text: {"serviceAccount": {"annotations": {"a": text}}}),
    ("storage.uri", lambda text: {"storage": {"uri": f"s3://lab/{text}"}}),
    ("storage.endpoint", lambda text: {"storage": {"uri": "s3://lab", "endpoint": f"http://{text}"}}),
    ("secretKey", lambda text: {"s3": {"enabled": True, "credentials": {"secretKey": text}}}),
    ("imagePrefixes", lambda text: {"admission": {"enabled": True, "imagePrefixes": [text]}}),
    ("storagePrefixes", lambda text: {"admission": {"enabled": True, "storagePrefixes": [f"s3://{text}"]}}),
    ("tolerations", lambda text: {"tolerations": [{"key": text}]}),
    ("imageTag", lambda text: {"image": {"tag": text}}),
]  # fmt: skip


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize(("place", "values"), FREE, ids=[place for place, _ in FREE])
def test_text_in_values_never_makes_or_changes_other_objects(
    place: str, values: Any, text: str
) -> None:
    helm = Helm("helm")
    try:
        hostile = helm.objects(values(text))
    except HelmError as error:
        assert "schema" in str(error)
        return
    assert keys(hostile) == keys(helm.objects(values("harmless")))
    assert "hostNetwork: true" not in [line.strip() for line in str(hostile).splitlines()]
    spec = next(o for o in hostile if o["kind"] == "Deployment")["spec"]["template"]["spec"]
    assert "hostNetwork" not in spec


def test_a_parent_chart_may_share_its_globals_and_its_own_settings_only(each_helm: Helm) -> None:
    assert each_helm.objects({"global": {"imageRegistry": "r.io", "storageClass": "fast"}})


def test_notes_name_the_next_steps_and_print_no_secret() -> None:
    values = ["--set", "s3.enabled=true,s3.credentials.secretKey=canary-secret",
              "--set", "s3.credentials.accessKey=canary-access,s3.namespaces={team-a}"]  # fmt: skip
    said = Helm("helm").run(  # Helm 3 asks the cluster even for this
        "install", "m2r", str(CHART), "--namespace", "m2r-system", "--dry-run=client", *values
    )
    _, _, notes = said.partition("NOTES:")
    assert "kubectl -n m2r-system rollout status deployment/m2r-operator" in notes
    assert "apply -f examples/quickstart/" in notes
    assert "s3://m2r at http://m2r-s3.m2r-system.svc:7070" in notes
    assert "it is made in m2r-system, team-a" in notes
    assert "canary" not in notes


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ("replicas=2", "No default store is set"),
        ("crds.keep=false", "with them ALL RUNS"),
        ("watchNamespaces={a,b}", "serves the namespaces a, b"),
        ("storage.uri=s3://lab", "Runs write to s3://lab unless"),
        ("storage.uri=s3://lab,storage.secretName=k", "needs the Secret k with AWS_ACCESS_KEY_ID"),
    ],
)
def test_notes_follow_the_values(settings: str, line: str) -> None:
    command = ("install", "m2r", str(CHART), "--dry-run=client", "--set", settings)
    assert line in Helm("helm").run(*command).partition("NOTES:")[2]


def test_the_chart_is_clean_for_the_linter_and_packs_without_sources(
    each_helm: Helm, tmp_path: Any
) -> None:
    import tarfile

    assert "0 chart(s) failed" in each_helm.run("lint", "--strict", str(CHART))
    each_helm.run("package", str(CHART), "--destination", str(tmp_path))
    (archive,) = tmp_path.glob("m2r-*.tgz")
    with tarfile.open(archive) as packed:
        names = packed.getnames()
    assert {"m2r/Chart.yaml", "m2r/values.schema.json", "m2r/README.md"} <= set(names)
    assert not [name for name in names if "head" in name or "test" in name]
    assert archive.stat().st_size < 200_000  # a release is kept in a Secret of at most 1 MiB


def test_a_kubernetes_that_is_too_old_is_refused(each_helm: Helm) -> None:
    command = ("template", "m2r", str(CHART), "--kube-version")
    assert each_helm.run(*command, "1.31.0")
    with pytest.raises(HelmError, match=r"requires kubeVersion: >=1\.31\.0-0"):
        each_helm.run(*command, "1.30.9")


def test_parse_leaves_out_empty_documents() -> None:
    assert parse("---\n---\na: 1\n") == [{"a": 1}]
