"""What a fresh API server is given: rights of components that have none by default."""

from __future__ import annotations

from typing import Any

RBAC = "rbac.authorization.k8s.io"
READ = ["get", "list", "watch"]
RULES: dict[str, list[dict[str, Any]]] = {
    "system:coredns": [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": READ},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": READ},
    ],
}


def objects() -> list[dict[str, Any]]:
    """Cluster roles and their bindings."""
    made = [_role(name, rules) for name, rules in RULES.items()]
    made += [_binding(name, role=name, user=name) for name in RULES]
    kubelet = "system:kubelet-api-admin"
    return [*made, _binding("m2r:apiserver-kubelet", kubelet, "kube-apiserver-kubelet-client")]


def _role(name: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    kind = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole"}
    return {**kind, "metadata": {"name": name}, "rules": rules}


def _binding(name: str, role: str, user: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}],
    }
