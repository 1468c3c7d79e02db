"""docs/install.md: each of its commands is run, in order, as it stands there; other pages' too."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import gotools
import pytest
from cluster import Cluster
from documented import commands_of, pages
from release import CRDS, ROOT, Release, environment, make_adoptable, restore_crds
from runs import manifests

PAGE = (ROOT / "docs" / "install.md").read_text()
NAMESPACES = ("m2r-system", "team-a", "lab")
ACCOUNT = "arn:aws:iam::111122223333:role/m2r-trainer"


def sections() -> dict[str, list[str]]:
    """Title -> the commands below it, block by block."""
    found = {}
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        found[title] = re.findall(r"^```bash\n(.*?)^```", body, re.MULTILINE | re.DOTALL)
    return {title: blocks for title, blocks in found.items() if blocks}


class Shell:
    """A shell as a reader has it: helm, kubectl, the cluster, and the checkout's folders."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        tools = folder / "bin"
        tools.mkdir()
        for tool in ("helm", "kubectl"):
            (tools / tool).symlink_to(gotools.build(tool))
        for name in ("charts", "crds", "examples"):
            shutil.copytree(ROOT / name, folder / name)
        self.env = {
            **os.environ,
            **cluster.s3.env,
            **environment(cluster, folder),
            "PATH": f"{tools}:{os.environ['PATH']}",
        }

    def run(self, block: str) -> str:
        """Runs a block of commands; AssertionError with what they printed if one fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=400, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}\n{self.pods()}"
        return done.stdout

    def pods(self) -> str:
        """What became of the release's pods."""
        return "\n".join(self.cluster.describe(name) for name in NAMESPACES)


@pytest.fixture
def shell(cluster: Cluster, images: str, trainer: str, tmp_path: Path) -> Iterator[Shell]:
    """A cluster on which nothing of the page was done yet."""
    for name in NAMESPACES:
        found = cluster.try_get("namespace", name)
        if found is not None and found["status"]["phase"] == "Terminating":
            cluster.delete("namespace", name)
        else:
            assert found is None, f"the namespace {name} exists: this test would delete it"
    yield Shell(cluster, tmp_path)
    for namespace in NAMESPACES:
        Release(cluster, namespace, tmp_path).uninstall()
    restore_crds(cluster)  # the namespace controller waits half a minute for kinds that are gone
    cluster.kubectl("delete", "m2r", "--all", "--namespace", "default", check=False)
    for name in NAMESPACES:
        now = ("delete", "pods", "--all", "--grace-period=0", "--force")  # and for pods that end
        cluster.kubectl(*now, namespace=name, check=False)
    cluster.kubectl("delete", "namespace", *NAMESPACES, "--ignore-not-found")


def adopt(shell: Shell, namespace: str = "m2r-system") -> None:
    """Where other tests have left definitions: as if the page's own release had left them."""
    make_adoptable(shell.cluster, Release(shell.cluster, namespace, shell.folder))


def first_try(shell: Shell, start: str, stop: str) -> None:
    adopt(shell)
    listed = shell.run(start)
    assert "sftjob.m2r.dev/sft" in listed
    small = manifests("data")["data"]
    small["metadata"]["name"] = "small"
    small["spec"]["resources"] = {"cpu": "100m"}  # two, as the quickstart asks for, may be all
    shell.cluster.apply(small, namespace="default")
    shell.cluster.wait(
        "the trainer's image has written to the chart's own store",
        lambda: phase_of(shell.cluster, "small") == "Succeeded",
        seconds=240, namespace="default",
    )  # fmt: skip
    assert "uninstalled" in shell.run(stop)
    assert shell.cluster.get("sftjobs.m2r.dev", namespace="default")["items"] == []


def phase_of(cluster: Cluster, name: str) -> str | None:
    """The phase of a synthesis in the default namespace."""
    run = cluster.get("datasynthesisjobs.m2r.dev", name, namespace="default")
    found: str | None = run.get("status", {}).get("phase")
    return found


def own_store(shell: Shell, only: str) -> None:
    adopt(shell)
    shell.run(only)
    pod = shell.cluster.get("deployment", "m2r-operator", namespace="m2r-system")
    env = pod["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "M2R_OPERATOR_STORAGE_SECRET", "value": "store-keys"} in env
    assert {
        "name": "M2R_OPERATOR_STORAGE_ENDPOINT", "value": shell.cluster.s3.endpoint
    } in env  # fmt: skip


def identity(shell: Shell, only: str) -> None:
    adopt(shell)
    shell.run(only)
    account = shell.cluster.get("serviceaccount", "trainer", namespace="team-a")
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": ACCOUNT}


def namespaced(shell: Shell, only: str) -> None:
    shell.run(only)
    role = shell.cluster.get("role", "m2r-team-a-operator", namespace="team-a")
    assert role["rules"]
    assert shell.cluster.try_get("clusterrole", "m2r-operator") is None


def shared(shell: Shell, only: str) -> None:
    adopt(shell)
    shell.run(only)
    policies = shell.cluster.get("validatingadmissionpolicies")["items"]
    names = {p["metadata"]["name"] for p in policies}
    assert {"m2r-images", "m2r-storage", "m2r-serviceaccounts", "m2r-gpus"} <= names
    assert shell.cluster.try_get("networkpolicy", "m2r-runs", namespace="team-a")


def upgrade(shell: Shell, only: str, by_hand: str, hand_over: str) -> None:
    adopt(shell)
    shell.run(
        "helm install m2r charts/m2r --namespace m2r-system --create-namespace "
        "--set replicas=1 --set storage.uri=s3://m2r/runs"
    )
    shell.run(only)
    found = shell.cluster.get("deployment", "m2r-operator", namespace="m2r-system")
    assert found["spec"]["replicas"] == 1, "the upgrade lost the values"
    shell.run(by_hand)
    for name in CRDS:  # as if nobody else had made them
        shell.cluster.kubectl("delete", "crd", name)
    shell.run("helm uninstall m2r --namespace m2r-system --wait")
    shell.run(by_hand)
    shell.run("helm install m2r charts/m2r --namespace m2r-system --set crds.enabled=false")
    shell.run(only)
    assert "meta.helm.sh/release-name" not in annotations(shell.cluster, CRDS[0])
    shell.run(hand_over)
    assert annotations(shell.cluster, CRDS[0])["meta.helm.sh/release-name"] == "m2r"
    changed = shell.folder / "charts" / "m2r" / "templates" / "crds" / "m2r.dev_evaljobs.yaml"
    changed.write_text(re.sub("description: (?=[A-Z])", "description: Anew. ", changed.read_text()))
    with pytest.raises(AssertionError, match=r'conflict.* with "kubectl"'):
        shell.run(only)
    option = "--reset-then-reuse-values"
    shell.run(only.replace(option, f"{option} --force-conflicts"))


def annotations(cluster: Cluster, crd: str) -> dict[str, str]:
    """The annotations of a definition."""
    found: dict[str, str] = cluster.get("crd", crd)["metadata"].get("annotations", {})
    return found


def uninstall(shell: Shell, only: str, everything: str) -> None:
    adopt(shell)
    shell.run("helm install m2r charts/m2r --namespace m2r-system --create-namespace")
    shell.run(only)
    assert all(shell.cluster.try_get("crd", name) for name in CRDS)
    if not shell.cluster.owned:
        pytest.fail("the last step deletes every run of the cluster: unset KUBECONFIG")
    shell.run(everything)
    assert not any(shell.cluster.try_get("crd", name) for name in CRDS)


def air_gap(shell: Shell, only: str) -> None:
    adopt(shell)
    shell.run(only)
    found = shell.cluster.get("deployment", "m2r-operator", namespace="m2r-system")
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("registry.internal:5000/m2r-operator:")


STEPS: dict[str, Callable[..., None]] = {
    "First try": first_try,
    "Install, with a store of yours": own_store,
    "Install, with workload identity": identity,
    "Install for some namespaces only": namespaced,
    "Shared clusters": shared,
    "Upgrade": upgrade,
    "Uninstall": uninstall,
    "Without a network": air_gap,
}


def test_every_section_with_commands_is_run_by_a_test() -> None:
    assert set(sections()) == set(STEPS)


@pytest.mark.parametrize("title", STEPS)
def test_the_commands_of_a_section_work_as_they_stand(shell: Shell, title: str) -> None:
    STEPS[title](shell, *sections()[title])


# The pages beside it, in an order in which their commands follow each other.
OTHERS = (
    "README.md",
    "docs/index.md",
    "docs/dashboards.md",
    "docs/runbook.md",
    "examples/own-reward/README.md",
)


def for_a_cluster(page: str) -> list[str]:
    """The commands of a page that need a cluster. ``...`` at the end stands for more options."""
    found = [c.text for c in commands_of(ROOT / page)]
    return [
        text.removesuffix(" ...")
        for text in found
        if text.startswith(("kubectl ", "helm ")) or "| kubectl " in text
    ]


def test_no_page_with_commands_for_a_cluster_is_left_out() -> None:
    """An experiment's manifests are hours of work; tests/cluster/test_sweep.py applies small ones
    that are written by the same command."""
    named = {page.relative_to(ROOT).as_posix() for page in pages()}
    with_some = {page for page in named if for_a_cluster(page)}
    experiments = {page for page in with_some if page.startswith("examples/experiments/")}
    assert with_some - experiments == {"docs/install.md", *OTHERS}
    assert {text for page in experiments for text in for_a_cluster(page)} == {
        "kubectl apply -f manifests"
    }


def the_runbooks_run(cluster: Cluster) -> None:
    """The run that the runbook looks at; it has no pods, as it waits for another one."""
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lab"}})
    spec = {
        "model": {"from": {"kind": "SFTJob", "name": "m2-ci"}},
        "dataset": {"uri": "s3://lab/m2r/data"},
    }
    run = {
        "apiVersion": "m2r.dev/v1alpha1",
        "kind": "RLVRJob",
        "metadata": {"name": "m2-rlvr"},
        "spec": spec,
    }
    cluster.apply(run, namespace="lab")


def test_the_commands_of_other_pages_work_as_they_stand(shell: Shell, monitoring: None) -> None:
    """On one release; what several pages say is run once."""
    adopt(shell)
    install, *texts = dict.fromkeys(text for page in OTHERS for text in for_a_cluster(page))
    assert install.startswith("helm install m2r ")
    shell.run(install)
    the_runbooks_run(shell.cluster)
    ready = "kubectl --namespace m2r-system rollout status deployment/m2r-operator --timeout=5m"
    told = {text: shell.run(text) + shell.run(ready) for text in texts}
    assert "sftjob.m2r.dev/sft" in told["kubectl get m2r"]
    assert "deployment.apps/m2r-operator" in "".join(told.values())
    assert "rlvrjob.m2r.dev/varied created" in told[texts[-1]]
    dashboards = shell.cluster.get("configmaps", namespace="m2r-system")["items"]
    assert any(name.endswith(".json") for one in dashboards for name in one.get("data", {}))
    shell.run("kubectl --namespace lab delete rlvrjob m2-rlvr")


def test_every_file_and_value_that_the_page_names_exists() -> None:
    import yaml

    for link in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
    values = yaml.safe_load((ROOT / "charts" / "m2r" / "values.yaml").read_text())
    named = re.findall(r"--set '?([A-Za-z0-9.]+)=", PAGE)
    named += [
        n for n in re.findall(r"`([a-z0-9]+(?:\.[A-Za-z]+)+)`", PAGE) if not n.startswith("spec.")
    ]
    for path in named:
        node = values
        for key in path.split("."):
            assert isinstance(node, dict), path
            assert key in node, path
            node = node[key]
