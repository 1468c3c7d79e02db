"""The command line: up, down, status, build, check."""

from __future__ import annotations

import argparse
import os
import sys

import gotools
from setup_env import SetupError

from cluster import Cluster, ClusterError, connect, down, up
from cluster.lifecycle import DEFAULT_GPUS
from cluster.parts import check_machine

DESCRIPTION = "A real one-node Kubernetes cluster for tests and demos."
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


def summary(cluster: Cluster) -> str:
    """What runs and how to use it; lines with ``export`` can be pasted into a shell."""
    lines = [f"export KUBECONFIG={cluster.kubeconfig}"]
    if not cluster.owned:
        return "\n".join([*lines, "# the cluster of KUBECONFIG is used as it is: nothing started"])
    lines += [f"export {name}={value}" for name, value in cluster.s3.env.items()]
    running = ", ".join(name for name in cluster.component_names if cluster.healthy(name))
    lines += [
        f"# S3:         {cluster.s3.endpoint}, bucket {cluster.s3.bucket} (the same from pods)",
        f"# Prometheus: {cluster.prometheus or 'not started (--prometheus)'}",
        f"# runs:       {running}",
        f"# GPUs:       {cluster.gpus} x nvidia.com/gpu, advertised by a device plugin",
        f"# host:       {cluster.host_address} as seen from pods",
        f"# state:      {cluster.state} (logs in log/)",
    ]
    if any(os.environ.get(name) for name in PROXIES):
        lines.append(f"export NO_PROXY=$NO_PROXY,{cluster.node_address}")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python tools/cluster", description=DESCRIPTION)
    commands = made.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start the node, or keep it if it is healthy")
    start.add_argument("--prometheus", action="store_true", help="with Prometheus")
    start.add_argument("--gpus", type=int, help=f"GPUs that the node has (default: {DEFAULT_GPUS})")
    commands.add_parser("down", help="remove the node and every trace of it")
    commands.add_parser("status", help="what runs; exit code 1 if that is not all")
    commands.add_parser("check", help="whether a node can run here, or KUBECONFIG names a cluster")
    build = commands.add_parser("build", help="build tools into the cache and print their paths")
    build.add_argument("tools", nargs="*", metavar="TOOL", help=", ".join(gotools.TOOLS))
    return made


def status() -> int:
    """Prints each component's state."""
    cluster = connect()
    if not cluster.owned:
        print(cluster.kubectl("get", "nodes"), end="")
        return 0
    states = {name: cluster.healthy(name) for name in cluster.component_names}
    for name, well in states.items():
        print(f"{name:<20} {'ok' if well else 'NOT HEALTHY: ' + str(cluster.log(name))}")
    print(summary(cluster))
    return 0 if all(states.values()) else 1


def main(arguments: list[str]) -> int:
    """Runs a command; errors are one line on stderr and exit code 1."""
    options = parser().parse_args(arguments)
    try:
        match options.command:
            case "up":
                print(summary(up(prometheus=options.prometheus, gpus=options.gpus)))
            case "down":
                down()
            case "status":
                return status()
            case "check":
                if not os.environ.get("KUBECONFIG"):
                    check_machine()
            case "build":
                for name in options.tools or gotools.TOOLS:
                    print(gotools.build(name), flush=True)
    except (ClusterError, SetupError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cluster: {error}: check the rights (root) and the free space", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
