"""``m2r run``, ``stage``, ``purge``, and what a sweep's lanes are started as."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from m2r_train.api.errors import ConfigError, SpecError, naming
from m2r_train.cli.base import (
    INTERRUPTED,
    Endpoint,
    StoreUri,
    app,
    cache_dir,
    check_writable,
    default_store,
    store_uri,
    write_file,
)
from m2r_train.stages.stop import StopRequest


@app.command()
def run(
    file: Annotated[
        list[Path] | None,
        typer.Option("-f", "--file", help="Manifest file or folder; may be repeated."),
    ] = None,
    store: StoreUri = None,
    endpoint: Endpoint = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Use this seed in every resource.")
    ] = None,
    summary: Annotated[Path | None, typer.Option(help="Write a JSON summary here.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report here.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Run nothing: show a cluster's runs (docs/watch.md).")
    ] = False,
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", help="With --watch: runs of this namespace.")
    ] = None,
    all_namespaces: Annotated[
        bool, typer.Option("-A", "--all-namespaces", help="With --watch: runs of all namespaces.")
    ] = False,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="With --watch: how to log in; else $KUBECONFIG.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="With --watch: the file's context.")] = None,
    until_done: Annotated[
        bool, typer.Option("--until-done", help="With --watch: end when all runs have ended.")
    ] = False,
) -> None:
    """Run manifests on this machine, in the order of their references; resumes what is there.

    With --watch: show the runs of a cluster instead.
    """
    _check_modes(
        watch,
        here={"--store": store, "--endpoint": endpoint, "--seed": seed, "--summary": summary,
              "--report": report},
        there={"--namespace": namespace, "--all-namespaces": all_namespaces or None,
               "--kubeconfig": kubeconfig, "--context": context,
               "--until-done": until_done or None},
    )  # fmt: skip
    if watch:
        raise SystemExit(_watch(file, namespace, all_namespaces, kubeconfig, context, until_done))
    if not file:
        raise SpecError("--file: is required; name manifests with -f, or watch a cluster (--watch)")
    from m2r_train.api import load_manifests, order
    from m2r_train.api.runspec import RunStorage
    from m2r_train.engine.ranks import RANK, seat_here
    from m2r_train.stages.support import refuse_unsupported
    from m2r_train.telemetry.progress import Progress

    if seat_here() is not None:
        raise ConfigError(
            f"{RANK} is set: m2r run starts the ranks of a run itself; without torchrun it works, "
            "and m2r stage works with it"
        )
    resources = order(load_manifests(file))
    for resource in resources:  # before the first has run for hours
        with naming(resource.where):
            refuse_unsupported(resource.spec)
    check_writable(summary)
    check_writable(report)
    stop = StopRequest()
    with stop.listening(), Progress() as progress:
        from m2r_train.reporting import final_table, find_runs, write_report
        from m2r_train.runner import run_all
        from m2r_train.runner import summary as summarise

        finished = run_all(
            resources,
            store=RunStorage(uri=store_uri(store), endpoint=endpoint) if store else None,
            default_store=store_uri(default_store()),
            seed=seed,
            progress=progress,
            cache_dir=cache_dir(),
            stop=stop,
        )
        folders = [run.uri for run in finished]
        table = final_table(find_runs(folders, endpoint=endpoint))
        if table is not None:
            progress.show(table)
        if report is not None:
            write_report(folders, report, endpoint=endpoint, cache_dir=cache_dir())
            progress.note(f"report: {report}")
    if summary is not None:
        write_file(summary, json.dumps(summarise(finished), indent=1, sort_keys=True) + "\n")


def _check_modes(watch: bool, *, here: dict[str, object], there: dict[str, object]) -> None:
    """Options that the chosen way of ``m2r run`` does not have are no silent no-ops."""
    for name, value in (here if watch else there).items():
        if value is not None:
            remedy = "leave it out" if watch else "add --watch"
            raise SpecError(f"{name}: {'not with' if watch else 'only with'} --watch; {remedy}")


def _watch(
    file: list[Path] | None,
    namespace: str | None,
    all_namespaces: bool,
    kubeconfig: Path | None,
    context: str | None,
    until_done: bool,
) -> int:
    """Show a cluster's runs; the exit code."""
    try:
        from m2r_train.clusterwatch.watching import watch
    except ImportError as error:
        raise ConfigError(f"--watch: {error}; install M2R with its extra watch") from error
    try:
        return watch(
            file or (),
            namespace=namespace,
            all_namespaces=all_namespaces,
            kubeconfig=kubeconfig,
            context=context,
            until_done=until_done,
        )
    except KeyboardInterrupt:  # not "goes on from the last checkpoint": nothing was run
        return INTERRUPTED


@app.command(hidden=True)
def lane(context: typer.Context) -> None:
    """Carry the runs that are told on standard input: what m2r sweep --lanes starts."""
    stop: StopRequest = context.obj or StopRequest()
    with stop.listening():
        from m2r_train.sweeps.lanes import serve

        with os.fdopen(os.dup(1), "w") as answers:
            os.dup2(2, 1)  # what a library prints is no answer
            serve(sys.stdin, answers, cache_dir(), stop)


@app.command()
def stage(
    context: typer.Context,
    spec: Annotated[
        Path, typer.Option("--spec", help="Run spec (JSON), as the operator mounts it.")
    ],
    port: Annotated[
        int, typer.Option(help="Port of /metrics and /status; 0 takes a free one.")
    ] = 9400,
) -> None:
    """Run one attempt at one run: what a pod runs."""
    stop: StopRequest = context.obj or StopRequest()
    with stop.listening():
        from m2r_train.pod import run_pod

        run_pod(spec, port=port, cache_dir=cache_dir(), stop=stop)


@app.command()
def purge(
    spec: Annotated[Path, typer.Option("--spec", help="Run spec (JSON) of the run.")],
) -> None:
    """Delete everything that one run has in its store; run it again if it was interrupted."""
    from m2r_train.purging import purge_run
    from m2r_train.stages.stop import StopRequest

    stop = StopRequest()
    with stop.listening():
        typer.echo(purge_run(spec, stopped=lambda: bool(stop)))
