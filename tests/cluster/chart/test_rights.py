"""What the release's operator may do: asked of the API server, and seen in its audit log.

Two proofs of the same list. The authoriser is asked about every verb on every resource there is,
so a right too many is found although nobody uses it; and a release lives through all that makes
the operator write, so a right too few is found, and one that nothing needs.
"""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from cluster import Cluster, ClusterError
from plays import play, sft
from release import Access, Release, granted, refused, unused, values, wait_phase

from m2r_operator import names
from m2r_operator.credentials import from_kubeconfig

CONNECTIONS = 8
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
# Subresources and verbs that discovery does not tell, and that would be a way to more rights.
SPECIAL: tuple[Access, ...] = (
    ("", "serviceaccounts/token", "create"),
    ("", "serviceaccounts", "impersonate"),
    ("", "users", "impersonate"),
    ("", "groups", "impersonate"),
    ("", "nodes/proxy", "get"),
    ("", "pods/portforward", "create"),
    ("rbac.authorization.k8s.io", "clusterroles", "bind"),
    ("rbac.authorization.k8s.io", "clusterroles", "escalate"),
    ("rbac.authorization.k8s.io", "roles", "bind"),
    ("rbac.authorization.k8s.io", "roles", "escalate"),
    ("certificates.k8s.io", "signers", "approve"),
    ("certificates.k8s.io", "signers", "sign"),
)
FINALIZERS: tuple[Access, ...] = tuple(
    ("m2r.dev", f"{plural}/finalizers", "update") for plural in names.PLURALS.values()
)


def every_access(cluster: Cluster) -> list[Access]:
    """Every verb on every resource that the API server has, and some that it does not list."""
    paths = ["/api/v1"]
    for group in json.loads(cluster.kubectl("get", "--raw", "/apis"))["groups"]:
        paths.append(f"/apis/{group['preferredVersion']['groupVersion']}")
    found: list[Access] = [*SPECIAL, *FINALIZERS]
    for path in paths:
        listed = json.loads(cluster.kubectl("get", "--raw", path))
        group = listed["groupVersion"].rpartition("/")[0]
        found += [
            (group, resource["name"], verb) for resource in listed["resources"] for verb in VERBS
        ]
    return found


def allowed(cluster: Cluster, user: str, namespace: str, asked: list[Access]) -> set[Access]:
    """What the authoriser lets ``user`` do in ``namespace`` (empty: in all of them)."""
    return asyncio.run(_allowed(cluster, user, namespace, asked))


async def _allowed(cluster: Cluster, user: str, namespace: str, asked: list[Access]) -> set[Access]:
    service_account, _, _ = user.rpartition(":")
    groups = ["system:serviceaccounts", "system:authenticated"]
    groups.append(service_account.replace("serviceaccount", "serviceaccounts", 1))
    admin = from_kubeconfig(cluster.kubeconfig)
    url = f"{admin.server}/apis/authorization.k8s.io/v1/subjectaccessreviews"
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=admin.ssl or True)
    async with aiohttp.ClientSession(connector=connector, headers=admin.headers()) as session:

        async def ask(access: Access) -> bool:
            group, name, verb = access
            resource, _, subresource = name.partition("/")
            what = {"group": group, "resource": resource, "subresource": subresource, "verb": verb}
            spec = {
                "user": user,
                "groups": groups,
                "resourceAttributes": {**what, "namespace": namespace},
            }
            async with session.post(url, json={"spec": spec}) as answer:
                answer.raise_for_status()
                return bool((await answer.json())["status"]["allowed"])

        answers = await asyncio.gather(*map(ask, asked))
    return {access for access, answer in zip(asked, answers, strict=True) if answer}


def role(release: Release, kind: str, name: str) -> set[Access]:
    """The rules of a role of the release."""
    return granted(release.cluster.get(kind, name, namespace=release.namespace))


@pytest.mark.parametrize("namespaced", [False, True], ids=["everywhere", "namespaced"])
def test_the_operator_may_do_what_its_roles_say_and_nothing_else_anywhere(
    release: Release, images: str, namespaced: bool
) -> None:
    cluster, own = release.cluster, release.namespace
    other = f"{own}-o"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    try:
        watched = {"watchNamespaces": [other]} if namespaced else {}
        release.install(values(images, replicas=1, **watched))
        lease = role(release, "role", f"{release.operator}-lease")
        if namespaced:
            name = release.operator.replace("-operator", f"-{own}-operator")
            work = granted(cluster.get("role", name, namespace=other))
        else:
            work = role(release, "clusterrole", release.operator)
        asked = every_access(cluster)
        assert len(asked) > 900
        # Of the lease only the one with its name may be read and changed, which is not asked here.
        own_lease = {(group, name, verb) for group, name, verb in lease if verb == "create"}
        expected = {
            own: own_lease | (set() if namespaced else work),
            other: work,
            "": set() if namespaced else work,
        }
        nobody = f"system:serviceaccount:{other}:nobody"
        everybody = allowed(cluster, nobody, other, asked)
        assert ("authorization.k8s.io", "selfsubjectaccessreviews", "create") in everybody
        for namespace, wanted in expected.items():
            found = allowed(cluster, release.user, namespace, asked)
            assert found - everybody == wanted, namespace or "all namespaces"
        named = cluster.kubectl(
            "auth", "can-i", "update", f"leases/{release.operator}", f"--as={release.user}",
            namespace=own,
        )  # fmt: skip
        assert named.strip() == "yes"
        if not namespaced:
            users_of_view_and_edit_may_see_and_change_runs(cluster, other)
    finally:
        cluster.delete("namespace", other, wait=False)


def users_of_view_and_edit_may_see_and_change_runs(cluster: Cluster, namespace: str) -> None:
    """The release's roles for users count as part of Kubernetes' own."""
    expected = {"view": {"get", "list", "watch"}, "edit": set(VERBS)}
    asked: list[Access] = [("m2r.dev", "rlvrjobs", verb) for verb in VERBS]
    group = "rbac.authorization.k8s.io"
    for name, verbs in expected.items():
        binding = {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": f"has-{name}"}],
        }
        cluster.apply(binding, namespace=namespace)
        cluster.wait(
            f"{name} has these verbs and no other",
            lambda name=name, verbs=verbs: (
                {verb for _, _, verb in allowed(cluster, f"has-{name}", namespace, asked)} == verbs
            ),
            seconds=30,
        )


def test_a_busy_life_needs_every_right_and_no_other(release: Release, images: str) -> None:
    cluster, namespace = release.cluster, release.namespace
    since = datetime.now(UTC)
    release.install(values(images))
    release.ready()
    short = play(steps=3, stepSeconds=0.3)
    foreign = {"metadata": {"name": "taken-sftj-1"}, "apiVersion": "batch/v1", "kind": "Job",
               "spec": {"suspend": True, "template": {"spec": pod_spec()}}}  # fmt: skip
    service = {"metadata": {"name": "pair-sftj"}, "apiVersion": "v1", "kind": "Service",
               "spec": {"clusterIP": "None"}}  # fmt: skip
    cluster.apply(foreign, service, namespace=namespace)
    cluster.apply(
        sft("brief", uri=short, ttlSecondsAfterFinished=0),  # deleted by the operator
        sft("taken", uri=short),  # its Job's name is somebody else's: read
        sft("pair", uri=short, resources={"nodes": 2, "cpu": "10m", "sharedMemory": "16Mi"}),
        sft("stopped", uri=play(steps=1000, stepSeconds=0.2)),  # its Job is deleted
        sft("kept", uri=short, storage={"uri": "s3://m2r/kept", "reclaimPolicy": "Delete"}),
        namespace=namespace,
    )
    for kind in ("EvalJob", "RLVRJob", "DataSynthesisJob"):
        cluster.apply(other_kind(kind, short), namespace=namespace)
    wait_phase(cluster, namespace, "stopped", "Running")
    patch = json.dumps({"spec": {"suspend": True}})
    cluster.kubectl("patch", "sftj", "stopped", "--type=merge", "-p", patch, namespace=namespace)
    wait_phase(cluster, namespace, "stopped", "Suspended")
    cluster.wait(
        "the finished run is deleted",
        lambda: cluster.try_get("sftjobs.m2r.dev", "brief", namespace=namespace) is None,
        namespace=namespace,
    )
    cluster.delete("job", "taken-sftj-1", namespace=namespace)
    cluster.delete("service", "pair-sftj", namespace=namespace)
    again = ("annotate", "sftj", "pair", "example.com/look=again")  # sooner than by itself
    cluster.kubectl(*again, namespace=namespace)
    cluster.wait(
        "its own Service is made",
        lambda: cluster.try_get("service", "pair-sftj", namespace=namespace),
        seconds=90, namespace=namespace,
    )  # fmt: skip
    conflict_with(release, since)
    rights = role(release, "clusterrole", release.operator)
    rights |= role(release, "role", f"{release.operator}-lease")
    if not cluster.owned:
        raise ClusterError("the audit log of the given cluster cannot be read: unset KUBECONFIG")
    # A watch is in the log once it has ended.
    operator = f"deployment/{release.operator}"
    cluster.kubectl("scale", operator, "--replicas=0", namespace=namespace)
    cluster.kubectl(
        "wait", "pods", "--for=delete", "-l", "app.kubernetes.io/component=operator",
        namespace=namespace,
    )  # fmt: skip
    assert refused(cluster.audit(), release.user, since) == {}
    # What the code does to one kind it does to all: SFTJobs stand for the rest.
    rest = {
        (group, resource, verb)
        for group, resource, verb in rights
        if group == "m2r.dev" and "sftjobs" not in resource and verb in ("get", "delete", "patch")
    }
    # For finalizers only an admission plugin of some clusters asks, and that is no request
    # (OwnerReferencesPermissionEnforcement).
    rights -= rest | set(FINALIZERS)
    cluster.wait(
        "every right was used",
        lambda: not unused(cluster.audit(), release.user, rights, since),
        seconds=30,
    )


def conflict_with(release: Release, since: datetime) -> None:
    """Changes a run until the operator's write meets a newer version, which it then reads."""
    cluster, namespace = release.cluster, release.namespace
    cluster.apply(sft("busy", uri=play(steps=500, stepSeconds=0.05)), namespace=namespace)
    deadline = time.monotonic() + 90
    wanted = {("m2r.dev", "sftjobs", "get")}
    count = 0
    while unused(cluster.audit(), release.user, wanted, since):
        assert time.monotonic() < deadline, "no conflict in 90 s"
        count += 1
        head = {"apiVersion": "m2r.dev/v1alpha1", "kind": "SFTJob"}
        notes = [{"name": "busy", "annotations": {"n": f"{count}.{i}"}} for i in range(30)]
        text = "\n---\n".join(json.dumps({**head, "metadata": note}) for note in notes)
        cluster.kubectl(
            "apply", "--server-side", "--force-conflicts", "--field-manager=annoying",
            "-f", "-", namespace=namespace, stdin=text, check=False,
        )  # fmt: skip


def pod_spec() -> dict[str, Any]:
    """A pod that the restricted standard lets in; it is never started."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "image": "none", "securityContext": security}],
    }


def other_kind(kind: str, uri: str) -> dict[str, Any]:
    """The smallest run of another kind on the stand-in."""
    import plays

    make = {
        "EvalJob": plays.evaluation,
        "RLVRJob": plays.rlvr,
        "DataSynthesisJob": plays.synthesis,
    }[kind]
    return make("other", uri=uri)


def test_refused_and_unused_rights_are_found_in_the_log() -> None:
    def event(
        verb: str, code: int, resource: str = "jobs", seconds: int = 0, user: str = "u"
    ) -> Any:
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        return {
            "user": {"username": user}, "verb": verb, "responseStatus": {"code": code},
            "objectRef": {"resource": "jobs", "apiGroup": "batch", "namespace": "n"},
            "requestReceivedTimestamp": at.isoformat().replace("+00:00", "Z"),
        }  # fmt: skip

    log = [
        event("create", 201),
        event("create", 409),
        event("delete", 403),
        event("list", 200, user="other"),
        event("watch", 200, seconds=-9),
        {"user": {"username": "u"}, "verb": "get", "requestReceivedTimestamp": "x"},
    ]
    since = datetime(2026, 1, 1, tzinfo=UTC)
    create, delete = ("batch", "jobs", "create"), ("batch", "jobs", "delete")
    listing, watch = ("batch", "jobs", "list"), ("batch", "jobs", "watch")
    assert refused(log, "u", since) == {(delete, "n"): 1}
    assert unused(log, "u", [create, delete, listing, watch], since) == {delete, listing, watch}
    assert unused(log, "u", [create, watch]) == set()
