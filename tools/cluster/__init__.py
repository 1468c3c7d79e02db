"""A real one-node Kubernetes cluster for tests and demos, from nothing, in seconds.

``make cluster-up`` starts it, ``make cluster-down`` removes every trace. In Python::

    from cluster import ClusterError, connect, down, up

    cluster = up()                                    # or connect(): the running one
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}})
    pods = cluster.get("pods", namespace="demo")["items"]
    cluster.wait("the pod runs", lambda: cluster.phase("demo", "p") == "Running", seconds=30)

What runs: etcd, kube-apiserver (RBAC and Node authorisers, Pod Security admission, audit log),
kube-controller-manager, kube-scheduler, containerd, kubelet, kube-proxy, CoreDNS, a device plugin
with 8 ``nvidia.com/gpu``, a versitygw S3 server and, when asked for, Prometheus.

All of it lives in a network and a mount namespace of its own, in one cgroup and in one state
directory (``$M2R_CLUSTER_DIR``, else ``/var/lib/m2r-cluster``): the machine's firewall, mounts and
``/var/lib`` are not touched, and several clusters (with different state directories) can run side
by side. The host reaches the node, pods and Services by routes over one veth pair.

**Finding a cluster**

``up(state=None, *, prometheus=False, gpus=None) -> Cluster``
    Starts the node; keeps a healthy one; takes a broken one down first. ``cluster.started`` says
    whether this call started it. With ``KUBECONFIG`` in the environment nothing is started: that
    cluster is returned (``cluster.owned`` is False and all controls raise ``ClusterError``),
    unless it is the kubeconfig of a node of ours, which is then used with all controls.
``connect(state=None) -> Cluster``
    The same without starting anything; ``ClusterError`` when nothing runs.
``down(state=None) -> None``
    Removes processes, containers, mounts, links, cgroups and the state directory. Idempotent.
``tool(name) -> Path``
    A built binary: ``kubectl``, ``helm``, ``helm3``, ``kubeconform``, ``kwok``, ... Built on first
    use (see ``gotools.TOOLS``), then from the cache. ``python tools/cluster build NAME...``.
``TOOLBOX``
    Name of a tiny static image that is always present. Subcommands: ``serve [PORT]`` (GET /
    answers ``hello``, /env?NAME a variable, /metrics ``toolbox_answer 42``), ``sleep SECONDS``
    (dies of SIGTERM), ``exit N``, ``print TEXT [N]`` (prints, then exits with N),
    ``get URL [TOKEN_FILE CA_FILE]``, ``trap-term N`` (prints ``got TERM`` and exits with N),
    ``ignore-term``, ``env NAME``, ``tcp HOST:PORT``, ``write FILE TEXT``, ``cat FILE``. It
    has no shell; uid 65532 by default.

**Cluster**: attributes

==================  ==============================================================================
``kubeconfig``      path of the administrator's kubeconfig (``system:masters``)
``owned``           whether this is a node of ours, so that the controls below work
``started``         whether the ``up`` that returned this object started it
``state``           the state directory
``node``            name of the node (``m2r-node``)
``host_address``    address under which pods reach servers that listen on the host
``node_address``    address of the node: API server 6443, kubelet 10250, DNS 53, S3, Prometheus
``dns``             address of CoreDNS
``s3``              ``S3(endpoint, access_key, secret_key, region, bucket)``, reachable from the
                    host and from pods alike; ``s3.env`` for processes
``prometheus``      URL, or None where it was not asked for
==================  ==============================================================================

**Cluster**: the API

``kubectl(*args, stdin=None, namespace=None, seconds=60, check=True) -> str``
    Runs kubectl as administrator; ``ClusterError`` with its stderr on failure. ``kubeconfig=PATH``
    runs it as somebody else.
``get(resource, name=None, *, namespace=None, selector=None) -> dict``
    ``kubectl get -o json``: an object, or a list with ``items``; ``try_get`` gives None for a
    missing object.
``apply(*objects, namespace=None)``, ``delete(resource, name, *, namespace=None, wait=True)``
    Server-side apply of dicts; deletion (missing objects are fine).
``logs(namespace, pod, *, previous=False) -> str``, ``phase(namespace, pod) -> str | None``
``wait(what, probe, *, seconds=60, every=0.25, namespace=None) -> T``
    Calls ``probe`` until it returns something true, and returns that. ``AssertionError`` says
    ``what``, the last value or error and, with ``namespace``, its pods, events and logs.
``describe(namespace) -> str``
    Pods, events and logs of a namespace, for failure messages.
``service_account_kubeconfig(namespace, name, *, seconds=3600) -> Path``
    A kubeconfig with a token of that ServiceAccount (and none of the administrator's rights).

**Cluster**: controls for fault tests (``owned`` only; NAME in ``cluster.COMPONENTS``: ``etcd``,
``apiserver``, ``controller-manager``, ``scheduler``, ``containerd``, ``kubelet``, ``proxy``,
``dns``, ``gpu-plugin``, ``s3``, ``prometheus``)

``kill(name)``        SIGKILL; returns when the process is gone
``stop(name)``        SIGTERM, then SIGKILL after 10 s
``start(name)``       starts it again with the same flags and waits until it is healthy
``restart(name)``     kill + start
``pause(name)``, ``resume(name)``  SIGSTOP and SIGCONT: connections hang instead of failing
``alive(name) -> bool``
``log(name) -> Path`` its log file (stdout and stderr)
``stopped(name)``     context manager: killed inside, started again afterwards
``import_image(archive: Path) -> list[str]``
    Loads a docker-archive or OCI tar (also .gz) into containerd; returns the image names.
``images() -> list[str]``
``scrape(*namespaces: str) -> list[str]``
    Tells Prometheus to scrape the pods of these namespaces that have the usual annotations
    (``prometheus.io/scrape``, ``/port``, ``/path``), with their labels; call it again for new pods
    (Debian's Prometheus is built without Kubernetes discovery). Returns the targets.
``audit() -> Iterator[dict]``
    Events of the API server's audit log (level Metadata, one per finished request).
``writes(*, user_agent="", user="", since=None) -> Counter[tuple[str, str]]``
    Accepted or refused writes as ``{(verb, resource): count}``, of clients whose user agent
    starts with / whose user name equals the given text, after the time ``since`` (aware datetime).
"""

from cluster.cluster import Cluster
from cluster.errors import ClusterError
from cluster.kubectl import Kubectl
from cluster.layout import COMPONENTS, S3
from cluster.lifecycle import connect, down, up
from cluster.parts import TOOLBOX, tool

__all__ = [
    "COMPONENTS",
    "S3",
    "TOOLBOX",
    "Cluster",
    "ClusterError",
    "Kubectl",
    "connect",
    "down",
    "tool",
    "up",
]
